"""Long dialogues of two people over months, made up: episodes that we wrote, between small talk, with questions whose answers are known.

A line of an episode is said by A or B; `#tag` at its end makes it evidence. A question (`?`, and `=` where it shares words with its answer) names the tags that answer it. `{slots}` are filled differently in each dialogue.
"""

from __future__ import annotations

import random
from datetime import datetime, timedelta

import attrs

EPISODES = """
A: You won't believe it, I finally signed the papers for the house on {street}! #home
B: Wow, congratulations! When do you get the keys?
A: On the {ordinal}. We're packing boxes already. #keys
? Where did {A} buy a place to live? | home
? When can {A} move in? | keys
= When did {A} sign the papers for the house? | home
= When does {A} get the keys of the house? | keys

B: How was the weekend?
A: Exhausting but wonderful. We drove up to {lake} and slept in a tent two nights. #tent
B: Did you catch anything?
A: Two trout, and a terrible cold. #trout
? Where did {A} go camping? | tent
? What did {A} bring back from fishing? | trout
= Where did {A} sleep in a tent on the weekend? | tent
= How many trout did {A} catch at {lake}? | trout

A: So how did the interview go yesterday?
B: They offered me the position on the spot! I'm going to be a {job} at {company}. #offer
A: That is fantastic. When do you begin?
B: First Monday of next month. #begin
? What is {B}'s new profession? | offer
? When does {B} start working at {company}? | begin offer
= Which position did {company} offer {B}? | offer

B: My {relative} has been in hospital since Tuesday. #hospital
A: Oh no, what happened?
B: Slipped on the ice and broke a hip. The operation went well though. #hip
? Why does {B}'s {relative} need medical treatment? | hip
? When was {B}'s {relative} taken to the clinic? | hospital
= How did {B}'s {relative} break a hip? | hip

A: I started taking {instrument} lessons last week. #lessons
B: Seriously? I always thought you were more of a drummer.
A: I was, back in college. Sold the kit years ago. #drums
? What musical skills is {A} learning? | lessons
? Which instruments has {A} played? | lessons drums
= When did {A} start with {instrument} lessons? | lessons
= What happened to the drum kit that {A} had in college? | drums

B: We adopted a {animal} from the shelter!
A: Aww! What's the name?
B: {petname}. The kids fought over it for an hour. #petname
A: Send me a picture please!
? What is {B}'s pet called? | petname
= What is the name of the {animal} that {B} adopted from the shelter? | petname

A: The doctor says I have to stay away from {food} for good. #allergy
B: Allergic?
A: Yep, my throat swelled up at my own birthday dinner. #swelled
? What can't {A} eat? | allergy
? How did {A} find out about the allergy? | swelled
= What did the doctor tell {A} to stay away from? | allergy

B: Guess who ran the {city} marathon in under four hours. #marathon
A: No way! You only took up jogging in spring.
B: Three fifty two. My knees hate me. #time352
? Which race did {B} complete? | marathon
? How fast did {B} finish the race? | time352
= When did {B} run the {city} marathon? | marathon

A: I'm reading {book} right now, can't put it down. #book
B: Is that the one about the lighthouse?
A: No, you mean the other one by her. This is set in Lisbon.
? What novel does {A} enjoy at the moment? | book
= Which book is {A} reading? | book

B: My flight to {country} leaves at six in the morning tomorrow. #flight
A: How long will you be gone?
B: Sixteen days, mostly hiking along the coast. #sixteen
? Which country is {B} visiting? | flight
? How long is {B}'s trip to {country}? | sixteen
= When does {B}'s flight to {country} leave? | flight
= How many days is {B} hiking along the coast of {country}? | sixteen

A: Got my test results back, I passed! #passed
B: The driving one or the citizenship one?
A: Driving. Third attempt. #third
? How many tries did {A} need to get a license? | third
= How many attempts did {A} need to pass the driving test? | third

B: I've been going to a group on Thursdays, people who lost a parent. #grief
A: I'm glad you have that. Does it help?
B: It does. I cried the whole first session and then felt lighter than in months. #cried
? How does {B} cope with grief? | grief
? How did {B} feel after the first meeting of the support group? | cried
= When does {B}'s group for people who lost a parent meet? | grief

A: Mia lost her first tooth at breakfast today. #tooth
B: Already? Isn't she only five?
A: Turning six in {month}. #six
? How old will {A}'s daughter be on her next birthday? | six
? What happened to Mia in the morning? | tooth
= When did Mia lose her first tooth? | tooth
= When does Mia turn six? | six

B: I quit. Handed in my notice this afternoon. #quit
A: Because of your boss?
B: Partly, but mainly I want to open my own {shop}. #shop
? Why did {B} leave the job? | shop
? What business does {B} want to run? | shop
= When did {B} hand in the notice? | quit
= What does {B} want to open instead of working for a boss? | shop

A: We painted the nursery {color} over the holidays. #nursery
B: Does that mean what I think it means?
A: It's a girl, due in {month}! #girl
? When is {A}'s baby expected? | girl
? What color is the baby's room? | nursery
= In which color did {A} paint the nursery? | nursery
= When is {A}'s girl due? | girl

B: The car broke down on the highway again, had to be towed. #towed
A: Time for a new one?
B: The mechanic says the gearbox is gone, two thousand to fix it. So I'm looking at a used {car}. #gearbox
? What is wrong with {B}'s vehicle? | gearbox
? How much would the repair cost? | gearbox
= What did the mechanic say about {B}'s car? | gearbox

A: I won second prize for my {craft} at the county fair! #prize
B: I told you that piece was special.
? What did {A} receive an award for? | prize
= What did {A} win at the county fair? | prize

B: Our band is playing at the {venue} on Saturday, you should come. #gig
A: Are you still on bass?
B: Singing now, actually. {friend} took over the bass. #singing
? Where does {B} perform? | gig
? Who plays bass in {B}'s band? | singing
= When is {B}'s band playing at the {venue}? | gig
= Is {B} singing in the band? | singing

A: I joined the river cleanup on Sunday with people from church. #cleanup
B: Find anything strange?
A: A shopping cart and a wedding ring, believe it or not. #ring
? How does {A} help the community? | cleanup
? What unusual things were found in the water? | ring
= Who joined {A} for the river cleanup? | cleanup
= What did {A} find at the river cleanup? | ring

B: I can't sleep lately. Three hours a night, maybe. #insomnia
A: Have you tried anything for it?
B: {friend} swears by magnesium, so I ordered some. #magnesium
? What health issue does {B} struggle with? | insomnia
? What does {B} try against it? | magnesium
= How many hours does {B} sleep at night? | insomnia
= What did {friend} recommend to {B} for sleeping? | magnesium

A: {friend} asked me to be best man at the wedding! #bestman
B: When's the big day?
A: {ordinal} of {month}, in a vineyard. #vineyard
? What role has {A} at {friend}'s marriage ceremony? | bestman
? When and where is {friend} getting married? | vineyard
= Who asked {A} to be best man at the wedding? | bestman
= In which month is the wedding in the vineyard? | vineyard

B: Finished the kitchen shelves, built them from the old barn wood. #shelves
A: You made those yourself?
B: With my own two hands and about forty videos. #videos
? What furniture did {B} make? | shelves
? How did {B} learn to build it? | videos
= What did {B} build the kitchen shelves from? | shelves

A: I'm thinking of going back to school for {subject}. #school
B: At the university here?
A: An evening program, two years, starts in {month}. #evening
? What does {A} want to study? | school
? When would the evening classes of {A} begin? | evening
= Why is {A} going back to school? | school
= How many years does {A}'s evening program at the university take? | evening

B: I moved my mother in with us, she can't manage the stairs anymore. #mother
A: That is a big change. How are the kids with it?
B: They love it. She teaches them card games and cheats. #cards
? Who lives with {B} now? | mother
? What does {B}'s grandmother do with the children? | cards
= Why did {B}'s mother move in? | mother
= Who teaches the kids card games? | cards

A: My phone got stolen on the tram. #stolen
B: Did you report it?
A: Police said there's little hope. I bought a cheap {phone} in the meantime. #phone
? What happened to {A}'s phone? | stolen
? What device does {A} use now? | phone
= Where did {A}'s phone get stolen? | stolen

B: I've decided, no meat for the whole year. #vegetarian
A: What made you do that?
B: A documentary about slaughterhouses. I haven't been able to look at a steak since. #documentary
? What diet does {B} follow? | vegetarian
? What motivated {B} to stop eating meat? | documentary
= For how long does {B} eat no meat? | vegetarian
= Which documentary made {B} stop eating steak? | documentary

A: I got the grant! They're paying for the whole exhibition. #grant
B: The photographs from {country}?
A: Those, and the new portraits of dock workers. #portraits
? What does {A} want to show in a gallery? | portraits
? How is {A}'s show financed? | grant
= What is the grant of {A} for? | grant
= Whose portraits did {A} take? | portraits

B: {friend} and I broke up. #breakup
A: I'm so sorry. After four years?
B: Five in {month}. We just wanted different things, I want children and they don't. #children
? Is {B} still in a relationship? | breakup
? Why did {B} and {friend} separate? | children
= When did {B} and {friend} break up? | breakup

A: I adopted your advice and planted {plant} behind the shed. #planted
B: Water them early in the morning, never at noon.
? What grows in {A}'s garden? | planted
= What did {A} plant behind the shed? | planted

B: Had my first {dance} class last night, I stepped on everybody's feet. #dance
A: I'd pay to see that.
? What is {B} learning to dance? | dance
= How was {B}'s first {dance} class? | dance

A: I've been sober for one hundred days today. #sober
B: I am so proud of you. What helped the most?
A: Calling {friend} every evening instead of opening a bottle. #calling
? How long has {A} not been drinking? | sober
? Who supported {A} in staying away from alcohol? | calling
= How many days has {A} been sober? | sober
= Who did {A} call every evening instead of drinking? | calling

B: They found a lump, I have an appointment with a specialist on {weekday}. #lump
A: I'll come with you if you like.
B: It was benign! I can breathe again. #benign
? When does {B} see the specialist? | lump
? What was the outcome of {B}'s medical exam? | benign
= When is {B}'s appointment with the specialist about the lump? | lump

A: Bought tickets for {singer}, front row! #tickets
B: You've been wanting to see her since you were fifteen.
A: It's on the {ordinal} at the stadium. #concert
? Which artist will {A} see live? | tickets
? When is the show? | concert
= For whom did {A} buy front row tickets? | tickets

B: I've got a confession. I am terrified of {fear}. #fear
A: You? You jumped out of a plane!
? What is {B} afraid of? | fear
= What is {B} terrified of? | fear

A: My sister opened a bakery in {city}, I'm helping on weekends. #bakery
B: What's the specialty?
A: Cardamom buns. The line goes around the corner. #buns
? What does {A}'s sibling do for a living? | bakery
? What is sold at {A}'s sister's shop? | buns
= In which city did {A}'s sister open a bakery? | bakery

B: We went to the science museum for {friend}'s birthday. #museum
A: What did the little ones like best?
B: The dinosaur hall, hands down. And the exploding foam. #dino
? What exhibits did {B}'s kids like? | dino
? Where did they celebrate {friend}'s birthday? | museum
= When did {B} go to the science museum? | museum
= What did the little ones like best at the science museum? | dino

A: I finally told my parents that I'm gay. #out
B: How did they take it?
A: Dad hugged me for five minutes. Mum needs some time. #hug
? What did {A} reveal to the family? | out
? How did {A}'s father react? | hug
= Whom did {A} tell about being gay? | out
= Who hugged {A} for five minutes? | hug

B: I put {amount} into savings every month now. #saving
A: For the boat?
B: For the boat. Two more years. #boat
? What is {B} saving money for? | boat
? How much does {B} set aside? | saving
= How much does {B} put into savings every month? | saving

A: The kids made me a card and burnt pancakes for my birthday. #pancakes
B: The best kind. How does forty feel?
A: Like thirty nine with more back pain. #thirtynine
? What breakfast did {A} get? | pancakes
? How old is {A}? | thirtynine
= What card and pancakes did the kids make for {A}? | pancakes

B: I beat my grandfather at chess, first time ever. #chess
A: He must be ninety!
B: Ninety two and still sharp as a knife. #ninetytwo
? What game did {B} win? | chess
? How old is {B}'s grandpa? | ninetytwo
= When did {B} beat the grandfather at chess? | chess

A: I taught my first yoga class at the community center on {weekday}. #yoga
B: How many people showed up?
A: Eleven, and nobody fell over. #eleven
? How many students came to {A}'s class? | eleven
? What does {A} teach? | yoga
= Where did {A} teach the first yoga class? | yoga
= How many people showed up at {A}'s yoga class? | eleven

B: I'm learning {language} with an app, half an hour each day. #language
A: Because of the new colleagues?
B: Because of {friend}'s family, nobody there speaks English. #family
? Which foreign language does {B} practice? | language
? Why is {B} learning {language}? | family
= With what is {B} learning {language}? | language
= Who does {B} learn {language} for? | family
"""

MANY = """
What activities does {A} do in free time? | lessons yoga tent cleanup
What health problems did {B} have? | insomnia lump
What has {B} made or won with own hands or head? | shelves chess
What special events is {A} going to attend? | concert vineyard
Which members of {B}'s family are mentioned with an illness or weakness? | hip mother
What new things has {B} started learning? | language dance
How has {A}'s family grown or changed? | girl tooth
What did {A} buy recently? | phone tickets
"""

SLOTS = {
    "street": "Maple Street|Harbor Road|Chestnut Avenue|Mill Lane|Windsor Street|Elm Court",
    "ordinal": "3rd|12th|21st|28th|15th|9th",
    "month": "January|February|April|June|July|August|September|October|November",
    "lake": "Pine Lake|the Silver Falls|Cedar Creek|Bear Mountain|Lake Arnold",
    "job": "nurse|paralegal|data analyst|pastry chef|zookeeper|translator",
    "company": "Northwind|St. Mary's|Bluebird|the city library|Hartmann and Sons",
    "relative": "brother|aunt|father|grandmother|cousin",
    "instrument": "cello|violin|saxophone|piano|ukulele|clarinet",
    "animal": "greyhound|kitten|rabbit|beagle|parrot",
    "petname": "Biscuit|Waffles|Captain|Luna|Mr. Whiskers|Pepper",
    "food": "peanuts|shellfish|kiwis|walnuts|strawberries",
    "city": "Boston|Chicago|Hamburg|Dublin|Toronto|Lyon",
    "book": "The Glass Harbor|A Winter of Foxes|Salt and Thunder|The Quiet Hours",
    "country": "Portugal|Japan|Morocco|Iceland|Peru|Greece",
    "shop": "bookstore|pottery studio|bike workshop|flower shop|coffee roastery",
    "color": "yellow|mint green|lavender|sky blue",
    "car": "Toyota|Volvo|Honda|Mazda",
    "craft": "quilt|watercolor|pottery bowl|wood carving",
    "venue": "Blue Door|Old Mill|Jazz Cellar|Riverside Park",
    "friend": "Priya|Tom|Hannah|Diego|Olga|Kenji|Fatima",
    "subject": "psychology|architecture|nursing|marine biology",
    "phone": "Nokia|Pixel|Samsung|iPhone",
    "plant": "tomatoes|sunflowers|raspberries|dahlias",
    "dance": "salsa|tango|swing|flamenco",
    "weekday": "Monday|Tuesday|Wednesday|Thursday|Friday",
    "singer": "Adele|Bjork|Beyonce|Rosalia",
    "fear": "spiders|clowns|heights|thunderstorms|dogs",
    "amount": "two hundred|350 dollars|500 euros|eighty bucks",
    "language": "Spanish|Polish|Mandarin|Arabic|Italian",
}

SMALL_TALK = """
Hey {other}! How have you been?|Hi {other}, long time no see! What's new with you?|That sounds amazing, I'm so happy for you!|Thanks, {other}. That means a lot to me.|Wow, really? Tell me more!
Yeah, it's been a busy week with work and everything.|I know what you mean, sometimes life is just a lot.|Haha, that's so you.|I totally agree with you on that.|Take care, {other}! Talk to you soon.
Have you seen the weather lately? It hasn't stopped raining.|I had the best {dish} for lunch today.|We should get together sometime soon.|My neighbor's dog kept barking all night.|I watched a movie last night, it was okay.
What are you doing this weekend?|Not much, just relaxing at home with a good cup of tea.|It's so important to take time for yourself.|Family always comes first, that's what I say.|I love how passionate you are about this, {other}.
Wow {other}, your support really keeps me going.|The kids are doing great at school this year.|I went for a long walk in the park after work.|I'm trying to eat healthier these days, more {dish}.|That reminds me of when we were younger.
Do you remember that trip we took years ago?|Oh definitely, I think about it all the time.|I've been listening to a lot of {genre} lately.|My boss is driving me crazy with these meetings.|I need a vacation so badly.
Good luck with that! Let me know how it goes.|I'm proud of how far you've come, {other}.|It was so nice talking to you, {other}.|I bought new shoes yesterday and they already hurt.|Work has been stressful, but my friends help a lot.
I've been painting a little to unwind, nothing serious.|The garden needs so much work right now.|I was thinking about getting a new phone, but they're so expensive.|We had dinner at that new place in town, the {dish} was great.|The house is a mess, I have to clean before guests arrive.
My cousin is visiting next week, so I'm getting the guest room ready.|I called the doctor about my back, just a routine check.|I can't find my keys anywhere, it's the third time this month.|Music really helps me to focus when I study.|I dreamt about being late for an exam again.
How's your family doing?|They're all good, thanks for asking! And yours?|Everyone is fine, thank you.|I saw a beautiful sunset on my way home.|Sometimes I just want to run away to a cabin in the woods.
That photo you sent was gorgeous, where was it?|Just behind our house, early in the morning.|You always know what to say.|Let's plan something for next month, maybe a concert?|Sounds like a plan!
I finished the report at last, my team was relieved.|I started a new series about doctors, it's a bit silly.|We played board games until midnight.|I tried running today and nearly died after ten minutes.|The train was late again and I missed the beginning of class.
"""

MORE_SLOTS = {"dish": "pasta|ramen|salad|curry|pizza|tacos|soup", "genre": "jazz|rock|classical music|podcasts|folk"}
PEOPLE = (("Nora", "Felix"), ("Sam", "Ingrid"), ("Leila", "Marcus"), ("Yuki", "Paul"), ("Rosa", "Ethan"), ("Grace", "Ivan"))  # fmt: skip


@attrs.frozen
class Turn:
    """Something said: by whom, in which session, and when that was."""

    id: str
    speaker: str
    text: str
    session: str
    date: str


@attrs.frozen
class Asked:
    """A question and the ids of the turns that answer it. `kind` is `near`, `far` (few words shared), or `many` (several turns needed)."""

    question: str
    evidence: frozenset[str]
    kind: str


@attrs.frozen
class Dialogue:
    """All that two people said, and what is asked of it."""

    turns: list[Turn]
    questions: list[Asked]


def make(seed: int, *, sessions: int = 30, small_talk: int = 14) -> Dialogue:
    """A dialogue of its own for each seed."""
    dice = random.Random(seed)
    a, b = PEOPLE[seed % len(PEOPLE)]
    episodes = EPISODES.strip().split("\n\n")
    dice.shuffle(episodes)
    chat = [line for row in SMALL_TALK.strip().splitlines() for line in row.split("|")]
    day = datetime(2023, 1, 9, 13, 56)
    turns: list[Turn] = []
    questions: list[Asked] = []
    tags: dict[str, str] = {}
    per = [episodes[index::sessions] for index in range(sessions)]
    for number, told in enumerate(per, 1):
        day += timedelta(days=dice.randint(2, 16), minutes=dice.randint(-200, 200))
        date = f"{day.hour % 12 or 12}:{day.minute:02} {'pm' if day.hour >= 12 else 'am'} on {day.day} {day:%B}, {day.year}"
        lines: list[tuple[str, str, str | None]] = []

        def talk(count: int, lines: list[tuple[str, str, str | None]] = lines) -> None:
            for _ in range(count):
                who, other = dice.sample([a, b], 2)
                lines.append((who, _fill(dice.choice(chat).replace("{other}", other), dice, {}), None))

        talk(dice.randint(2, 5))
        for episode in told:
            fixed = {"A": a, "B": b}
            for line in episode.splitlines():
                who, text = line.split(" ", 1)
                if who in ("?", "="):
                    question, _, evidence = text.partition(" | ")
                    filled = _fill(question, dice, fixed)
                    kind = "many" if " " in evidence else "near" if who == "=" else "far"
                    questions.append(Asked(filled, frozenset(evidence.split()), kind))
                else:
                    text, _, tag = text.partition(" #")
                    lines.append((fixed[who[0]], _fill(text, dice, fixed), tag or None))
            talk(dice.randint(small_talk // 2, small_talk))
        for who, text, tag in lines:
            turn = Turn(f"D{number}:{len(turns)}", who, text, f"session_{number}", date)
            turns.append(turn)
            if tag:
                tags[tag] = turn.id
    for line in MANY.strip().splitlines():
        question, _, evidence = line.partition(" | ")
        questions.append(Asked(_fill(question, dice, {"A": a, "B": b}), frozenset(evidence.split()), "many"))
    named = [attrs.evolve(each, evidence=frozenset(tags[tag] for tag in each.evidence)) for each in questions]
    return Dialogue(turns, named)


def _fill(text: str, dice: random.Random, fixed: dict[str, str]) -> str:
    """Fill the slots; within one episode the same slot is always the same."""
    for slot, options in {**SLOTS, **MORE_SLOTS}.items():
        if f"{{{slot}}}" in text:
            value = fixed.setdefault(slot, dice.choice(options.split("|")))
            text = text.replace(f"{{{slot}}}", value)
    return text.replace("{A}", fixed.get("A", "")).replace("{B}", fixed.get("B", ""))
