"""The one normal form and the usual spoken forms, from a table of what people write."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from num2words import num2words

from asr.text import alternatives, normalize, spoken_forms
from asr.text.number_words import cardinal, digits, ordinal, roman, year

NORMAL = re.compile(r"(?:[a-z]+(?:'+[a-z]+)*(?: [a-z]+(?:'+[a-z]+)*)*)?")

TABLE = """
1,2,3 | one two three
one, two, three | one two three
3.10 | three point one zero | three point ten | three ten
.5 | point five | zero point five
0.5 | zero point five | point five
-5 | minus five | negative five
−5° | minus five degrees | negative five degrees
½ | one half | a half | half
1½ | one and a half
2 3/4 | two and three quarters
2/3 | two thirds
1² | one squared
x³ | x cubed
10⁵ | ten to the power of five | ten to the fifth
$5.50 | five dollars and fifty cents | five fifty | five dollars fifty
$1 | one dollar
$1M | one million dollars
$1.5 billion | one point five billion dollars
$1,000.00 | one thousand dollars | a thousand dollars
$0.99 | ninety nine cents
5€ | five euros
€20,50 | twenty euros and fifty cents
£5.50 | five pounds and fifty pence | five pounds fifty
20 USD | twenty dollars
-$5 | minus five dollars
1984 | nineteen eighty four | one nine eight four | nineteen hundred and eighty four
2005 | two thousand and five | twenty oh five | two thousand five
2024 | twenty twenty four | two thousand and twenty four
1,984 | one thousand nine hundred and eighty four
1990s | nineteen nineties | nineties
'90s | nineties | nineteen nineties
‘90s | nineties
the 90s | the nineties
1800s | eighteen hundreds
747 | seven hundred and forty seven | seven forty seven | seven four seven | seven hundred forty seven
Boeing 747 | boeing seven hundred and forty seven | boeing seven forty seven | boeing seven four seven
Blink-182 | blink one hundred and eighty two | blink one eighty two | blink one eight two
100 | one hundred | a hundred
1,250 | one thousand two hundred and fifty | one thousand two hundred fifty | twelve fifty
1,000,000 | one million | a million
007 | zero zero seven | oh oh seven | double oh seven
90210 | nine zero two one zero | nine oh two one oh
516-69 | five one six six nine
1-6-6-9 | one six six nine
555-1234 | five five five one two three four | triple five one two three four
(212) 555-0187 | two one two five five five zero one eight seven
1-800-555-0100 | one eight zero zero five five five zero one zero zero
911 | nine one one | nine eleven
3-5 | three to five | three five
2019–2020 | twenty nineteen to twenty twenty
50-50 | fifty fifty
1st | first
22nd | twenty second
101st | one hundred and first | one hundred first
June 5 | june fifth | june five
Oct. 31 | october thirty first | oct thirty first
2024-03-05 | march fifth twenty twenty four
7:05 | seven oh five | five past seven
7:00 | seven o'clock | seven
7:30 | seven thirty | half past seven
7:45 | seven forty five | quarter to eight
17:30 | seventeen thirty | five thirty | half past five
7:00 pm | seven pm | seven p m
5pm | five pm | five p m
5 P.M. | five pm | five p m
5 km | five kilometers | five kilometres | five k
1 km | one kilometer
20°C | twenty degrees celsius | twenty degrees
50% | fifty percent | fifty per cent
6'2" | six feet two | six foot two
10 m² | ten square meters
"7" | seven
#1 | number one
No. 5 | number five
No. I won't | no i won't
Dr. Brown | doctor brown | dr brown
Mr. Jones | mister jones | mr jones
Mrs. O'Brien | missus o'brien | mrs o'brien | missus obrien
Doctor Brown | doctor brown | dr brown
St. John | saint john | st john
Main St. | main street
W. 42nd St. | w forty second street
12 Ocean Dr | twelve ocean drive
5th Ave. | fifth avenue
Ave Maria | ave maria
Sgt. Pepper | sergeant pepper
Prof. Higgins | professor higgins
Mt. Everest | mount everest
Sammy Davis Jr. | sammy davis junior | sammy davis jr
Tiffany & Co. | tiffany and company | tiffany and co | tiffany n co
Henry VIII | henry the eighth | henry eight
World War II | world war two
Rocky IV | rocky four
MTV | mtv | m t v
IBM | ibm | i b m
NASA | nasa | n a s a
U.S.A. | u s a | usa
a.m. | am | a m
AT&T | a t and t | a t n t | a t t
R&B | r and b | r n b
Guns N' Roses | guns n roses | guns and roses
rock 'n' roll | rock n roll | rock and roll
rock'n'roll | rock n roll | rock and roll
Simon & Garfunkel | simon and garfunkel | simon n garfunkel
U2 | u two
R2-D2 | r two d two
MP3 | mp three | m p three
A320 | a three hundred and twenty | a three twenty
COVID-19 | covid nineteen
C++ | c plus plus
Ke$ha | kesha
L-O-N-G-V-I-E-W | l o n g v i e w | longview
L. O. N. G. | l o n g
drive-in | drive in | drivein
Jay-Z | jay z | jayz
Wi-Fi | wi fi | wifi
Wendy's | wendy's | wendys
OK | ok | okay
john.doe@gmail.com | john dot doe at gmail dot com
www.example.com/a | w w w dot example dot com slash a | example dot com slash a
Kow\u00adalski | kowalski
Kow\u200balski | kowalski
\ufeffKow\u2060alski | kowalski
don\u00b4t | don't
don\u02bct | don't
don\u2032t | don't
don\u201bt | don't
don\u0060t | don't
ﬁne ＡＢＣ１２ | fine abc twelve
Øystein Müller | oystein muller
don't | don't
HELLO THERE | hello there
meg bauer | meg bauer
"""
CASES = [[cell.strip() for cell in line.split(" | ")] for line in TABLE.strip().splitlines()]


@pytest.mark.parametrize(("written", "normal", "others"), [(c[0], c[1], c[2:]) for c in CASES])
def test_what_people_write(written: str, normal: str, others: list[str]) -> None:
    forms = spoken_forms(written)
    assert normalize(written) == forms[0] == normal
    assert set(others) <= set(forms)


@pytest.mark.parametrize("text", ["meg bauer", "Meg Bauer", "the kitchen light", "HELLO THERE", "don't", "zoe müller"])
def test_words_have_one_form(text: str) -> None:
    assert len(spoken_forms(text)) == 1


_PIECES = st.sampled_from([
    "St", "Dr", "mr", "'s", "'", "-", ".", ",", ":", "/", "$", "€", "%", "&", "@", "#", "+", "1", "5", "12", "30", "90",
    "007", "1984", "2000", "555", "1234", "a", "A", "b.c", "IBM", "VIII", "Henry", "May", "No.", "pm", "p.m.", "Ave",
    "Co.", "²", "½", "km", "in", "°", "C", "k", "M", "x", "n", "w/", "^", '"', "!", "s", "th", "\u00ad", "\u02bc", "é",
    "ß", "ﬁ", "Ａ", "５", "ﷺ", "№", "(415)", "www.", "com", ".5", "1,000", " ", " ", " ", " ",
])  # fmt: skip
written = st.one_of(st.text(max_size=40), st.lists(_PIECES, max_size=14).map("".join))


@settings(max_examples=300, deadline=None)
@given(written)
def test_forms_are_normal_forms_and_normalizing_twice_changes_nothing(text: str) -> None:
    normal, forms = normalize(text), spoken_forms(text)
    assert NORMAL.fullmatch(normal) and normalize(normal) == normal
    assert forms[0] == normal and 1 <= len(forms) == len(set(forms)) <= 16
    assert all(NORMAL.fullmatch(form) for form in forms)
    assert " ".join(" ".join(token[0] for token in alternatives(text)).split()) == normal


@pytest.mark.parametrize(
    "piece", ["7", "7 ", "$", "a-", "a.b.", "1-", "1.", "1,", "a@", "a1", "½", "St. ", "(415) ", "&", "x"]
)
def test_work_grows_with_the_text_and_no_faster(piece: str) -> None:
    """Figures without end, or signs: twice the text is not much more than twice the work."""

    def work(size: int) -> float:
        text = piece * (size // len(piece))
        took = []
        for _ in range(3):
            started = time.process_time()
            normalize(text)
            spoken_forms(text)
            took.append(time.process_time() - started)
        return min(took)

    assert work(8_000) < 40 * work(1_000) + 0.05
    assert len(normalize(piece * 5_000)) < 200_000


def test_numbers_are_said_as_num2words_says_them() -> None:
    def theirs(number: int, kind: str = "cardinal") -> str:
        return str(num2words(number, to=kind)).replace("-", " ").replace(",", "")

    for number in [*range(130), *range(990, 1130), 2_005, 12_345, 100_000, 1_000_001, 1_234_567, 10**12 + 10, 10**17]:
        assert cardinal(number) == theirs(number)
        assert ordinal(number) == theirs(number, "ordinal")
    for number in [*range(1010, 1130), 1900, 1905, 1984, 2000, 2005, 2010, 2024, 2099]:
        assert year(str(number)) == theirs(number, "year")
    assert digits("1907", "oh") == "one nine oh seven"


def test_roman_numerals() -> None:
    assert [roman(text) for text in ("I", "IV", "VIII", "XIV", "XXI", "XXXIX")] == [1, 4, 8, 14, 21, 39]
    assert [roman(text) for text in ("", "IIX", "VV", "MIX", "IIII", "A")] == [0] * 6
