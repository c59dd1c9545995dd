"""Words of everyday life that stand for each other in a question and its answer: who is asked about a "pet" tells of a "dog". Pure.

Each line is a concept: what people ask with, then `:`, then what they tell with. The ones before the colon also stand for each other. A match by concept counts less than one of the word itself (see `ranking.WEIGHTS`).
English only; a word of another language is looked for as it is.
"""

from __future__ import annotations

from functools import cache

from uait.services.memory.words import index_words

_CONCEPTS = """
pet animal: dog puppy cat kitten parrot hamster rabbit bird fish turtle guinea snake lizard horse pony vet leash aquarium
job work career occupation profession employer employment living: hired position company boss office promoted promotion colleague coworker shift salary intern manager engineer nurse teacher lawyer accountant chef barista waiter freelance startup developer designer interview resign quit fired
live reside hometown address located home: moved apartment house city town flat neighbourhood neighborhood rent landlord settled relocate lease
kid child offspring parent: son daughter toddler baby pregnant newborn twin teenager boy girl
relative family: brother sister mother father mum dad cousin aunt uncle niece nephew grandmother grandfather parent sibling son daughter husband wife
sibling: brother sister twin
partner spouse relationship dating marital romantic: husband wife boyfriend girlfriend fiance married engaged divorced single wedding breakup ex date
marry wedding married: engaged proposal ceremony bride groom honeymoon vows wed anniversary
hobby pastime leisure interest enjoy fun activity free unwind relax destress: painting drawing pottery knitting reading hiking gardening cooking baking fishing chess photography dancing climbing cycling running swimming yoga guitar piano camping gaming crochet embroidery woodworking
instrument music musical play: guitar piano violin drums flute cello clarinet saxophone ukulele trumpet keyboard harp bass banjo concert song band
music song artist band singer: concert album tune lyrics gig playlist orchestra choir jazz rock classical pop
sport exercise workout athletic fitness: football soccer basketball tennis swimming running marathon gym hockey baseball volleyball rugby climbing skiing yoga pilates boxing cycling golf training surfing skating
food dish cuisine meal eat cook recipe: pasta pizza sushi curry soup salad bread cake rice noodles taco burger steak chicken dinner lunch breakfast restaurant vegan vegetarian dumplings lasagna stew risotto pie
drink beverage: tea coffee wine beer juice cocktail whisky lemonade smoothie espresso soda
dessert sweet treat: cake cookie pie chocolate ice cream brownie pastry tart pudding muffin
allergy allergic intolerance: allergic peanut gluten lactose pollen shellfish hives reaction dairy
diet dietary: vegan vegetarian gluten keto kosher halal meat dairy
illness disease sick health medical condition ailment injury injured hurt: doctor hospital diagnosed flu cold fever migraine asthma diabetes surgery broke sprained ankle wrist knee pain clinic therapy medication pills stitches cast recovery operation twisted
doctor physician medical: clinic hospital appointment dentist surgeon therapist checkup nurse
travel trip holiday journey visit vacation abroad country destination: flight flew plane train hotel beach airport passport tour itinerary backpack cruise island resort sightseeing camping road roadtrip
transport commute vehicle drive: car bus train bike bicycle subway metro tram motorcycle scooter truck van cycle walk
car vehicle automobile: toyota honda ford bmw volvo tesla truck van engine garage mechanic driving license
school study education degree university college student major: class course exam graduate graduated professor thesis semester campus diploma phd master bachelor lecture enrolled tuition scholarship
book read novel author literature: chapter library story fiction fantasy mystery biography poem poetry paperback
movie film watch series show cinema: netflix episode documentary comedy thriller actor actress theater season trailer
game gaming videogame: console xbox playstation nintendo switch chess puzzle board level
art artwork artist creative craft: painting painted drawing drew sculpture canvas watercolor sketch gallery exhibition museum pottery photo portrait mural
paint painting painted: canvas watercolor brush portrait landscape mural sunset acrylic oil
birthday born age old: turned turning birthday party cake candles years
celebrate celebration event occasion party: birthday wedding anniversary graduation christmas festival thanksgiving easter parade ceremony
religion religious faith spiritual: church mosque temple synagogue prayer bible buddhist christian muslim jewish
money finance financial cost price pay expensive budget: dollars euros bucks salary saved savings loan mortgage bank debt rent bought spent paid
buy purchase shop acquire get: bought ordered store shopping paid picked got
gift present receive: gave given got bought birthday necklace surprise
jewelry jewellery: necklace ring bracelet earrings watch pendant
clothes clothing wear outfit garment: dress shirt shoes jacket coat jeans sweater hat boots suit scarf sneakers
weather climate: rain snow sunny storm cold hot wind cloudy heat
fear afraid scared phobia worry anxious: spider heights nervous terrified panic dark anxiety nightmare
feel emotion mood feeling: happy sad angry excited nervous proud grateful stressed lonely overwhelmed thrilled upset joy relieved
stress anxious anxiety worried pressure: overwhelmed burnout deadline nervous tense panic
goal plan aim intend dream ambition aspire future hope: want hoping planning going wish
volunteer charity help community donate donation: shelter fundraiser nonprofit raised soup kitchen cause mentoring
friend friendship buddy: pal met mate roommate
name called nickname: named called
learn study skill lesson: class course taught practice practicing lessons beginner language
language speak fluent: spanish french german italian japanese chinese english mandarin portuguese korean arabic russian
garden gardening plant: flowers roses tomatoes vegetables seeds soil herbs tulips greenhouse lawn
cause reason motivate motivation inspire inspiration influence: because inspired since wanted
problem trouble issue difficulty challenge struggle obstacle: broke broken hard tough lost failed stuck difficult stolen leaking crashed
repair fix: fixed plumber mechanic broken leaking
win award prize competition contest tournament achievement: won medal trophy first place champion beat finals race certificate
lose lost missing: lost stolen misplaced gone wallet keys
die death passed grief funeral loss: passed died funeral grave mourning lost miss
computer device technology tech gadget: laptop phone tablet macbook screen software app camera keyboard
phone number contact mobile: iphone android call pixel samsung
email contact address: gmail mail
drive license test: passed driving
nature outdoors outdoor wilderness: forest mountain lake hike trail beach river camping waterfall park woods tent sunset
hike hiking trek: trail mountain summit peak climb
beach sea ocean coast: sand waves surf swim seaside shore
business company start own entrepreneur store shop: launched opened startup customers clients studio store shop bakery cafe
meet introduce encounter: met introduced
move relocate relocation moved: moving moved apartment city packed boxes
origin from nationality native country: born grew raised roots immigrant heritage
political politics vote: election campaign protest rally mayor candidate
identity gender orientation sexuality lgbtq: transgender gay lesbian queer pride transition pronouns bisexual
counseling counselling therapy mental psychology: therapist counselor session support psychologist wellbeing
adopt adoption foster: agency agencies adopted orphan
color colour favorite shade: red blue green yellow purple pink orange teal black white
weekend saturday sunday:
meeting appointment meet schedule: monday tuesday wednesday thursday friday call calendar rescheduled
sleep insomnia rest tired: bed nap awake exhausted night tired
morning routine wake habit daily: alarm early breakfast jog every
dance dancing: salsa ballet tango hip hop studio choreography
photograph photography picture camera: lens shots photos album
write writing writer author: novel poem blog journal story screenplay script draft published article
build make create craft construct: built made wooden shelf furniture workshop project
furniture: table chair sofa couch desk shelf bed
club group society team join: joined member membership meetup
"""

CONCEPT_WORDS = 40
"""Most words that one word of a question is widened to."""


@cache
def _table() -> dict[str, tuple[tuple[str, bool], ...]]:
    found: dict[str, dict[str, bool]] = {}
    for line in _CONCEPTS.strip().splitlines():
        asked, _, told = line.partition(":")
        heads = list(dict.fromkeys(index_words(asked)))
        others = [word for word in dict.fromkeys(index_words(told)) if word not in heads]
        for head in heads:
            kept = found.setdefault(head, {})
            kept |= {word: True for word in heads if word != head}
            for word in others:
                kept.setdefault(word, False)
        for other in others:
            # Back to the concept itself, never to its other examples: a dog is a pet, and no cat.
            for head in heads[:3]:
                found.setdefault(other, {}).setdefault(head, False)
    return {
        word: tuple(sorted(kept.items(), key=lambda item: not item[1]))[:CONCEPT_WORDS] for word, kept in found.items()
    }


def related(word: str) -> tuple[tuple[str, bool], ...]:
    """The index words that may stand in an answer for an index word of a question, each with whether it names the concept itself."""
    return _table().get(word, ())
