"""What abbreviations, symbols and units stand for: tables from the written to the spoken."""

from __future__ import annotations

ALWAYS = {
    "mr": ("mister", "mr"), "mrs": ("missus", "mrs", "misses"), "dr": ("doctor", "dr", "drive"),
    "st": ("saint", "street", "st"), "jr": ("junior", "jr"), "sgt": ("sergeant", "sgt"), "prof": ("professor", "prof"),
    "capt": ("captain", "capt"), "messrs": ("messieurs", "messrs"), "vs": ("versus", "vs", "v s"),
    "blvd": ("boulevard", "blvd"), "hwy": ("highway", "hwy"), "mt": ("mount", "mt", "m t"),
    "wwi": ("world war one", "w w one", "w w i"), "wwii": ("world war two", "w w two", "w w i i"),
    "etc": ("et cetera", "etc"), "rd": ("road", "rd"), "msgr": ("monsignor", "msgr"),
}  # fmt: skip
"""Abbreviations that are no words of their own, with or without a full stop: what is said, the most usual first."""

ALSO_WRITTEN = {
    "mister": "mr", "missus": "mrs", "doctor": "dr", "saint": "st", "okay": "ok", "ok": "okay", "alright": "all right",
    "wifi": "wi fi", "email": "e mail", "emails": "e mails", "percent": "per cent", "goodbye": "good bye",
}  # fmt: skip
"""Words that transcripts, and models made from them, also have in another form that is said the same."""

CAPITALISED = {
    "ms": ("ms", "miss", "miz"), "sr": ("senior", "sr", "senor"), "lt": ("lieutenant", "lt"),
    "ft": ("fort", "ft", "feet"), "ln": ("lane", "ln"), "apt": ("apartment", "apt"),
    "dept": ("department", "dept"), "inc": ("incorporated", "inc"), "corp": ("corporation", "corp"),
    "ltd": ("limited", "ltd"), "bros": ("brothers", "bros"), "pkwy": ("parkway", "pkwy"),
}  # fmt: skip
"""The same where they begin with a capital."""

WITH_STOP = {
    "col": ("colonel", "col"), "gen": ("general", "gen"), "gov": ("governor", "gov"), "sen": ("senator", "sen"),
    "rep": ("representative", "rep"), "pres": ("president", "pres"), "cmdr": ("commander", "cmdr"),
    "maj": ("major", "maj"), "cpl": ("corporal", "cpl"), "adm": ("admiral", "adm"), "supt": ("superintendent", "supt"),
    "pvt": ("private", "pvt"), "co": ("company", "co"), "ct": ("court", "ct"), "sq": ("square", "sq"),
    "pl": ("place", "pl"), "ste": ("suite", "ste"), "fr": ("father", "fr"), "br": ("brother", "br"),
    "mme": ("madame", "mme"), "mlle": ("mademoiselle", "mlle"), "assn": ("association", "assn"),
    "univ": ("university", "univ"), "esq": ("esquire", "esq"), "approx": ("approximately", "approx"),
    "ave": ("avenue", "ave"), "cir": ("circle", "cir"), "rev": ("reverend", "rev"), "hon": ("honorable", "hon"),
    "feat": ("featuring", "feat"), "feb": ("february", "feb"), "aug": ("august", "aug"), "sept": ("september", "sept"),
    "oct": ("october", "oct"), "nov": ("november", "nov"), "dec": ("december", "dec"), "apr": ("april", "apr"),
    "tues": ("tuesday", "tues"), "wed": ("wednesday", "wed"), "thurs": ("thursday", "thurs"), "fri": ("friday", "fri"),
}  # fmt: skip
"""The same where a full stop follows that does not end the text, or a place is named in front of it."""

BEFORE_NUMBERS = {
    "no": ("number", "no"), "nos": ("numbers", "nos"), "vol": ("volume", "vol"), "ch": ("chapter", "ch"),
    "pp": ("pages", "pp"), "fig": ("figure", "fig"), "sec": ("section", "sec"), "ext": ("extension", "ext"),
    "rte": ("route", "rte"), "mar": ("march", "mar"), "sep": ("september", "sep"), "jan": ("january", "jan"),
    "feb": ("february", "feb"), "apr": ("april", "apr"), "jun": ("june", "jun"), "jul": ("july", "jul"),
    "aug": ("august", "aug"), "oct": ("october", "oct"), "nov": ("november", "nov"), "dec": ("december", "dec"),
    "sept": ("september", "sept"), "p": ("page", "p"),
}  # fmt: skip
"""The same where a number follows; without a full stop only those of BARE_BEFORE_NUMBERS."""
BARE_BEFORE_NUMBERS = frozenset({"jan", "feb", "apr", "jun", "jul", "aug", "sep", "sept", "oct", "nov", "dec", "vol"})

DOTTED = {
    "am": ("am", "a m"), "pm": ("pm", "p m"), "eg": ("e g", "for example"), "ie": ("i e", "that is"),
    "phd": ("p h d", "phd"),
}  # fmt: skip
"""Letters with a full stop behind each that are not simply spelled."""

SYMBOLS = {
    "&": ("and", "n", ""), "+": ("plus", "and"), "@": ("at",), "%": ("percent",), "=": ("equals",),
    "×": ("times", "by"), "÷": ("divided by",), "°": ("degrees",), "‰": ("per mille",), "€": ("euros",),
    "£": ("pounds",), "№": ("number",), "§": ("section",), "±": ("plus or minus",), "√": ("square root of",),
    "≈": ("approximately",), "≤": ("less than or equal to",), "≥": ("greater than or equal to",),
}  # fmt: skip

CURRENCIES = {
    "$": ("dollar", "dollars", "cent", "cents"), "£": ("pound", "pounds", "penny", "pence"),
    "€": ("euro", "euros", "cent", "cents"), "¥": ("yen", "yen", "", ""), "₹": ("rupee", "rupees", "paisa", "paise"),
    "₽": ("ruble", "rubles", "kopek", "kopeks"), "₩": ("won", "won", "", ""), "₺": ("lira", "lira", "", ""),
    "¢": ("cent", "cents", "", ""), "₿": ("bitcoin", "bitcoins", "", ""), "₴": ("hryvnia", "hryvnias", "", ""),
}  # fmt: skip
"""One, several, a hundredth, hundredths."""
CURRENCY_CODES = {"USD": "$", "EUR": "€", "GBP": "£", "JPY": "¥", "INR": "₹"}
SCALES = {"k": "thousand", "K": "thousand", "m": "million", "M": "million", "mn": "million", "mm": "million",
          "b": "billion", "B": "billion", "bn": "billion", "t": "trillion", "T": "trillion", "tn": "trillion",
          "thousand": "thousand", "million": "million", "billion": "billion", "trillion": "trillion"}  # fmt: skip

UNITS = {
    "km": ("kilometer", "kilometers"), "m": ("meter", "meters"), "cm": ("centimeter", "centimeters"),
    "mm": ("millimeter", "millimeters"), "mi": ("mile", "miles"), "ft": ("foot", "feet"), "yd": ("yard", "yards"),
    "kg": ("kilogram", "kilograms"), "g": ("gram", "grams"), "mg": ("milligram", "milligrams"),
    "lb": ("pound", "pounds"), "lbs": ("pounds", "pounds"), "oz": ("ounce", "ounces"), "l": ("liter", "liters"),
    "L": ("liter", "liters"), "ml": ("milliliter", "milliliters"), "mL": ("milliliter", "milliliters"),
    "mph": ("mile per hour", "miles per hour"), "kph": ("kilometer per hour", "kilometers per hour"),
    "km/h": ("kilometer per hour", "kilometers per hour"), "m/s": ("meter per second", "meters per second"),
    "Hz": ("hertz", "hertz"), "kHz": ("kilohertz", "kilohertz"), "MHz": ("megahertz", "megahertz"),
    "GHz": ("gigahertz", "gigahertz"), "W": ("watt", "watts"), "kW": ("kilowatt", "kilowatts"),
    "kWh": ("kilowatt hour", "kilowatt hours"), "V": ("volt", "volts"), "mAh": ("milliamp hour", "milliamp hours"),
    "KB": ("kilobyte", "kilobytes"), "MB": ("megabyte", "megabytes"), "GB": ("gigabyte", "gigabytes"),
    "TB": ("terabyte", "terabytes"), "Mbps": ("megabit per second", "megabits per second"),
    "dB": ("decibel", "decibels"), "°C": ("degree celsius", "degrees celsius"), "°": ("degree", "degrees"),
    "°F": ("degree fahrenheit", "degrees fahrenheit"), "%": ("percent", "percent"), "h": ("hour", "hours"),
    "hr": ("hour", "hours"), "hrs": ("hours", "hours"), "min": ("minute", "minutes"), "mins": ("minutes", "minutes"),
    "sec": ("second", "seconds"), "secs": ("seconds", "seconds"), "ms": ("millisecond", "milliseconds"),
    "m²": ("square meter", "square meters"), "km²": ("square kilometer", "square kilometers"),
    "m³": ("cubic meter", "cubic meters"), "ft²": ("square foot", "square feet"), "rpm": ("r p m", "r p m"),
    "fps": ("frame per second", "frames per second"), "in": ("inch", "inches"), "'": ("foot", "feet"),
    '"': ("inch", "inches"), "pt": ("point", "points"), "px": ("pixel", "pixels"), "p": ("p", "p"),
}  # fmt: skip
OTHER_UNITS = {
    "percent": ("per cent",), "degrees celsius": ("degrees", "degrees c", "degrees centigrade"),
    "degree celsius": ("degree", "degree c"), "degrees fahrenheit": ("degrees", "degrees f"),
    "kilograms": ("kilos",), "kilogram": ("kilo",), "kilometers": ("kilometres", "k"), "kilometer": ("kilometre",),
    "meters": ("metres",), "meter": ("metre",), "centimeters": ("centimetres",), "millimeters": ("millimetres",),
    "liters": ("litres",), "liter": ("litre",), "feet": ("foot",), "kilometers per hour": ("kilometres an hour",),
    "miles per hour": ("miles an hour",), "gigabytes": ("gigs",), "p": ("pence",), "dollars": ("bucks",),
}  # fmt: skip
"""What is also said for a unit."""

MONTHS = ("january", "february", "march", "april", "may", "june", "july", "august", "september", "october", "november",
          "december")  # fmt: skip
MONARCHS = frozenset({
    "henry", "elizabeth", "george", "charles", "louis", "james", "william", "edward", "richard", "pius", "benedict",
    "leo", "paul", "philip", "napoleon", "peter", "ivan", "frederick", "alexander", "nicholas", "mary", "john",
    "catherine", "gregory", "clement", "innocent", "urban", "felipe", "carlos", "albert", "leopold", "wilhelm",
    "friedrich", "franz", "christian", "gustav", "haakon", "harald", "olav", "cleopatra", "ptolemy", "ramses",
    "ramesses", "thutmose", "mehmed", "murad", "selim", "suleiman", "pope", "king", "queen", "tsar", "czar",
    "emperor", "kaiser", "rama",
})  # fmt: skip
"""A Roman numeral behind such a name is said as an ordinal."""
