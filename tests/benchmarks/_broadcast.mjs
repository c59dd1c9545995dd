// node's `ws` sending one message to all its clients again and again; see broadcast.py.
import { WebSocketServer } from "ws";

const [count, size, behind] = process.argv.slice(2).map(Number);
const message = "x".repeat(size);
const server = new WebSocketServer({ host: "127.0.0.1", port: 0 });

function publish() {
  for (const client of server.clients) {
    if (client.bufferedAmount <= behind) client.send(message);
  }
  setImmediate(publish);
}

server.on("listening", () => console.log(server.address().port));
server.on("connection", (client) => {
  client.on("error", () => {});
  if (server.clients.size === count) publish();
});
