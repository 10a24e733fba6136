"""Characters that look like ASCII, each with the one it looks like.

Unicode's compatibility decompositions already cover full-width forms, mathematical alphabets, circled letters and the
like. What stands here is what they leave out: other scripts' letters of the same shape, small capitals, letters turned
upside down, squared and regional letters, and letters with strokes. Written by eye, one ASCII character for each.
"""

from typing import Final

_PAIRS: Final = (
    # Cyrillic
    ("АВЕЅІЈКМНОРСТУХЬ", "ABESIJKMHOPCTYXb"),
    ("асеіјорѕухһԁԛԝьӏҽ", "aceijopsyxhdqwble"),
    ("ГгЗзвкмнтпия", "rr33BKMHTnuR"),
    ("ԌԍҮүҚқԚԜӀҺҒғѴѵҪҫԐԑНнЁёЇї", "GgYyKkQWIhFfVvCcEeHhEeIi"),
    # Greek
    ("ΑΒΕΖΗΙΚΜΝΟΡΤΥΧϹϺ", "ABEZHIKMNOPTYXCM"),
    ("αβγεηικνορστυχωϲϳ", "aByeniKvopotuxwcj"),
    ("άέήίόύώϊϋ", "aeniouwiu"),
    # Armenian
    ("աեոօսցհյզղցքլձՏՕՍԼՀՈ", "aenouqhjqngpldSOULQN"),
    # Cherokee
    ("ᎠᎡᎢᎥᎪᎫᎬᎳᎷᎻᎽᏀᏂᏃᏆᏎᏏᏒᏔᏕᏙᏚᏞᏟᏢᏦᏧᏳᏴ", "DRTiAJEWMHYGhZIJbRWSVSLCPKJGB"),
    # Small capitals and phonetic letters
    ("ᴀʙᴄᴅᴇꜰɢʜɪᴊᴋʟᴍɴᴏᴘꞯʀꜱᴛᴜᴠᴡʏᴢ", "abcdefghijklmnopqrstuvwyz"),
    ("ɑɡɩɪıȷɨʏᶦɫʠƙɱƞɲŋƥʂƭʋɦɗɓƈɠ", "agiiijiyilqkmnnnpstvhdbcg"),
    # Upside down
    ("ɐɔǝɟƃɥᴉɾʞꞁɯɹʇʌʍʎ", "acefghijklmrtvwy"),
    # Strokes, which have no decomposition
    ("ØøŁłĐđĦħŦŧƀɃȺⱥȻȼɆɇɈɉƗƵƶßðÐ", "OoLlDdHhTtbBAaCcEeJjIZzsdD"),
    # Letter-like signs
    ("∂∆∑√∞×‚٫⁄∕⧸∶꞉⁎∗‐‑‒–—―−", "dAEV8x,,///::**-------"),
    ("‘’‛′“”‟″«»‹›。、「」【】", '\'\'\'\'""""""\'\'.,""[]'),
)
_RUNS: Final = (  # first code point, how many, what they look like
    (0x1F130, 26, "A"),  # squared
    (0x1F150, 26, "A"),  # negative circled
    (0x1F170, 26, "A"),  # negative squared
    (0x1F1E6, 26, "A"),  # regional indicators
    (0x2776, 9, "1"),  # negative circled digits
    (0x1F110, 26, "A"),  # parenthesised capitals
    (0x249C, 26, "a"),  # parenthesised small letters
    (0x2474, 9, "1"),  # parenthesised digits
    (0x2488, 9, "1"),  # digits with a full stop
)


def _table() -> dict[str, str]:
    table: dict[str, str] = {}
    for strange, plain in _PAIRS:
        table.update(zip(strange, plain, strict=True))
    for first, count, plain in _RUNS:
        table.update((chr(first + index), chr(ord(plain) + index)) for index in range(count))
    return table


LOOK_ALIKES: Final = _table()
