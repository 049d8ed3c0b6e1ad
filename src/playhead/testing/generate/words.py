"""The words of a data set: our own lists, so that no row is a real person's."""

from typing import Final

from playhead.testing.generate.draws import Choice

_FIRST_HEADS: Final = "Al Be Ca Da El Fa Gi Ha Is Jo Ka Lu Ma Ne Or Pa Quo Ro Sa Ti Ul Va Wy Zu"
_FIRST_TAILS: Final = "bren dra fin la mar nor rick sha ten vis ."
_LAST_HEADS: Final = "Ald Bram Crow Dun Elm Fair Gar Hol Ing Kes Lang Mor Nor Oak Pen Quil Rav Stan"
_LAST_TAILS: Final = "by croft den ford gate ham ley mere more ridge stead wick"
_TOWN_HEADS: Final = (
    "Amber Bay Clear Deer Eagle Fern Glen High Iron Juniper Lake Maple New Pine Stone"
)
_TOWN_TAILS: Final = "borough bridge bury field haven mouth port shire side stad ton view ville"
_TITLE_HEADS: Final = (
    "A", "Broken", "Crimson", "Distant", "Electric", "Forgotten", "Golden", "Hidden", "Infinite",
    "Last", "Midnight", "My", "Northern", "Paper", "Quiet", "Secret", "Silver", "Stolen", "The",
    "Velvet", "Wild", "Winter",
)  # fmt: skip
_TITLE_TAILS: Final = (
    "Adventure", "Archive", "Bridge", "Code", "Crown", "Desert", "Empire", "Garden", "Harbor",
    "Island", "Journey", "Kingdom", "Legend", "Lighthouse", "Machine", "Mission", "Mystery",
    "Orchard", "Promise", "Quest", "River", "Season", "Shadow", "Signal", "Story", "Summer",
    "Tide", "Voyage", "Warrior", "Witness",
)  # fmt: skip


def _pairs(heads: tuple[str, ...], tails: tuple[str, ...], between: str = "") -> tuple[str, ...]:
    return tuple((head + between + tail).strip(" .") for head in heads for tail in tails)


def _compose(heads: str, tails: str) -> tuple[str, ...]:
    return _pairs(tuple(heads.split()), tuple(tails.split()))


def _falling(count: int) -> tuple[float, ...]:
    return tuple(1.0 / (rank + 10) for rank in range(count))


_FIRST: Final = _compose(_FIRST_HEADS, _FIRST_TAILS)
_LAST: Final = _compose(_LAST_HEADS, _LAST_TAILS)

FIRST_NAMES: Final = Choice(_FIRST, _falling(len(_FIRST)))
LAST_NAMES: Final = Choice(_LAST, _falling(len(_LAST)))
CITIES: Final = Choice(_compose(_TOWN_HEADS, _TOWN_TAILS))
TITLES: Final = Choice(_pairs(_TITLE_HEADS, _TITLE_TAILS, " "))
MAIL_HOSTS: Final = Choice(("example.com", "example.net", "example.org"))

COUNTRIES: Final = Choice(("USA", "Canada"), (0.7, 0.3))
STATES: Final = Choice(
    (
        "Arizona", "California", "Florida", "Georgia", "Illinois", "Indiana", "Maryland",
        "Massachusetts", "Michigan", "Missouri", "New Jersey", "New York", "North Carolina",
        "Ohio", "Pennsylvania", "Tennessee", "Texas", "Virginia", "Washington", "Wisconsin",
    )
)  # fmt: skip
PROVINCES: Final = Choice(
    (
        "Alberta", "British Columbia", "Manitoba", "New Brunswick", "Newfoundland and Labrador",
        "Nova Scotia", "Ontario", "Prince Edward Island", "Quebec", "Saskatchewan",
    )
)  # fmt: skip

GENDERS: Final = Choice(
    ("Female", "Male", "Prefer not to say", "Other"), (0.456, 0.446, 0.05, 0.048)
)
PLANS: Final = Choice(("Basic", "Standard", "Premium", "Premium+"), (0.2, 0.35, 0.35, 0.1))
PRIMARY_DEVICES: Final = Choice(
    ("Desktop", "Laptop", "Mobile", "Smart TV", "Tablet", "Gaming Console")
)
WATCH_DEVICES: Final = Choice(("Desktop", "Laptop", "Mobile", "Smart TV", "Tablet"))
LOG_DEVICES: Final = Choice(("Laptop", "Mobile", "Smart TV", "Tablet"))
QUALITIES: Final = Choice(("SD", "HD", "4K", "Ultra HD"), (0.15, 0.5, 0.3, 0.05))
ACTIONS: Final = ("started", "paused", "stopped", "completed")

CONTENT_TYPES: Final = Choice(
    ("Movie", "TV Series", "Documentary", "Stand-up Comedy", "Limited Series"),
    (0.444, 0.254, 0.136, 0.115, 0.051),
)
GENRES: Final = Choice(
    (
        "Action", "Adventure", "Animation", "Biography", "Comedy", "Crime", "Documentary", "Drama",
        "Family", "Fantasy", "History", "Horror", "Music", "Mystery", "Romance", "Sci-Fi", "Sport",
        "Thriller", "War", "Western",
    )
)  # fmt: skip
CERTIFICATES: Final = Choice(
    ("G", "PG", "PG-13", "R", "NC-17", "TV-Y", "TV-Y7", "TV-G", "TV-PG", "TV-14", "TV-MA")
)
LANGUAGES: Final = Choice(
    ("English", "Spanish", "French", "Hindi", "Japanese", "Italian", "Korean", "German"),
    (0.58, 0.1, 0.064, 0.058, 0.053, 0.051, 0.051, 0.04),
)
ORIGINS: Final = Choice(
    ("USA", "South Korea", "Canada", "UK", "Japan", "Germany", "France", "India"),
    (0.52, 0.114, 0.098, 0.085, 0.055, 0.046, 0.042, 0.04),
)

_THEMES: Final = (
    "action movies", "animated shows", "biographies", "classic movies", "comedy shows",
    "cooking shows", "crime stories", "documentaries", "drama series", "family movies",
    "fantasy worlds", "holiday movies", "horror movies", "korean drama", "music documentaries",
    "new releases", "romantic comedies", "sci-fi", "spy thrillers", "stand up comedy",
    "superhero movies", "thriller series", "travel documentaries", "trending now", "war movies",
)  # fmt: skip
_WISHES: Final = (
    "award winning documentaries", "best movies of the year", "movies based on true stories",
    "series with only one season", "short episodes under 30 minutes", "shows for a rainy sunday",
    "something like the one with the lighthouse",
)  # fmt: skip
QUERIES: Final = Choice(_THEMES + _WISHES, (3.6,) * len(_THEMES) + (1.45,) * len(_WISHES))

RECOMMENDATIONS: Final = Choice(
    ("personalized", "genre_based", "new_releases", "similar_users", "trending")
)
TIMES_OF_DAY: Final = Choice(("morning", "afternoon", "evening", "night"))
ALGORITHMS: Final = Choice(("v1.2", "v1.3", "v1.4", "v2.0"), (0.1, 0.3, 0.4, 0.2))

SENTIMENTS: Final = ("negative", "neutral", "positive")
_NEGATIVE: Final = (
    "I gave up after twenty minutes.", "Loud and empty.", "Nobody in it talks like a person.",
    "Slow and then suddenly over.", "The plot has more holes than story.",
    "The trailer was the better film.", "Too long by half.", "Weak script. Weaker ending.",
    "We switched it off.", "You have seen all of this before.",
)  # fmt: skip
_NEUTRAL: Final = (
    "A few good scenes.", "Decent acting. Thin story.", "Fine for a quiet evening.",
    "Good start and a tired end.", "It passes the time.", "Neither good nor bad.",
    "Not what I expected but fine.", "Nothing new. Nothing wrong.", "Watchable once.",
    "Works better with the family.",
)  # fmt: skip
_POSITIVE: Final = (
    "A story that stays with you.", "Beautifully shot and well told.", "Best evening in weeks.",
    "Every scene earns its place.", "Funny and sad in all the right places.",
    "Great cast and a clever plot.", "I watched it twice.", "The ending is perfect.",
    "We could not stop watching.", "Wonderful from start to finish.",
)  # fmt: skip
REVIEW_TEXTS: Final = _NEGATIVE + _NEUTRAL + _POSITIVE
TEXTS_PER_SENTIMENT: Final = len(_NEGATIVE)
