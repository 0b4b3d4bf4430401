"""Make the emoji world's pictures and captions from two npm packages.

    npm pack @lobehub/fluent-emoji-3d@1.1.0 emojibase-data@17.0.0    # then unpack both, for example into A and B
    python benchmarks/emoji_data.py A B [--out src/limner/worlds/emoji]

Writes `pictures.webp`, one sheet of 64 x 64 pictures on white, `COLUMNS` a row, and `captions.jsonl`, a line a picture
in the same order. The flags of countries are left out: their names say nothing about what they look like.

A family is what differs by skin tone, gender or direction alone; all groups of parents and children; and what looks
alike: pictures whose 16 x 16 thumbnails differ by less than `ALIKE` (RMS, of 1) are of one family, however they are
called. Families are the unit of every split, by a fixed hash: of those below `HELDOUT_SHARE`, the ones whose label uses
only words that families above it use are held out; all others are halves "a" and "b".
"""

from __future__ import annotations

import argparse
import json
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from limner.core.rng import fixed_share

SIZE = 64
COLUMNS = 56
QUALITY = 90
TONES = {"1f3fb", "1f3fc", "1f3fd", "1f3fe", "1f3ff"}
IGNORED = TONES | {"fe0f", "200d", "2640", "2642", "27a1"}
"""Code points that make no other family: tones, joiners, genders, and the arrow that turns a person round."""
ADULTS, MINORS, ADULT = {"1f468", "1f469"}, {"1f466", "1f467", "1f9d2"}, "1f9d1"
ALIKE = 0.05
HELDOUT_SHARE = 0.3
KNOWN = 1
"""Families above `HELDOUT_SHARE` that must use a word, in label, kind or tags, for a held-out label to use it."""
COMMON = 5
"""Families that must have a tag for it to be one of ours."""
SALT = "limner emoji"

Row = dict[str, Any]


def main() -> None:
    """Read both packages, decide families and splits, and write both files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pictures", type=Path, help="the unpacked @lobehub/fluent-emoji-3d")
    parser.add_argument("captions", type=Path, help="the unpacked emojibase-data")
    parser.add_argument("--out", type=Path, default=Path("src/limner/worlds/emoji"))
    options = parser.parse_args()
    named = read_captions(options.captions)
    found = [
        (named[plain(path.stem)], path)
        for path in sorted(options.pictures.glob("assets/*.webp"))
        if plain(path.stem) in named
    ]
    found = [(row, path) for row, path in found if not row["kind"].endswith(("country flag", "subdivision flag"))]
    rows, pictures = [row for row, _ in found], np.stack([read_picture(path) for _, path in found])
    first = representatives(rows)
    merge_alike(rows, first, pictures)
    first = representatives(rows)
    choose_tags(rows, first)
    split(rows, first)
    sheet(pictures).save(options.out / "pictures.webp", quality=QUALITY, method=6)
    keys = ("code", "label", "kind", "tags", "group", "family", "part")
    lines = [json.dumps({key: row[key] for key in keys}, ensure_ascii=False) for row in rows]
    (options.out / "captions.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    parts = Counter(rows[i]["part"] for i in first.values())
    print(f"{len(rows)} pictures, families {len(first)}: {dict(sorted(parts.items()))}")


def plain(code: str) -> str:
    """Return a file's or emoji's code points in lower case, without the one that asks for colour."""
    return "-".join(part for part in code.lower().replace("_", "-").split("-") if part != "fe0f")


def words(text: str) -> list[str]:
    """Return the words of a text: lower case letters and digits, without accents and apostrophes."""
    bare = "".join(c for c in unicodedata.normalize("NFKD", text.lower()) if not unicodedata.combining(c))
    return re.findall("[a-z0-9]+", re.sub("[’']", "", bare))


def read_captions(folder: Path) -> dict[str, Row]:
    """Return label, kind, tags, group and family of every emoji, with its tones, by its code points."""
    names = json.loads((folder / "meta" / "groups.json").read_text(encoding="utf-8"))
    groups = {
        each["order"]: each["message"]
        for each in json.loads((folder / "en" / "messages.json").read_text(encoding="utf-8"))["groups"]
    }
    found = {}
    for emoji in json.loads((folder / "en" / "data.json").read_text(encoding="utf-8")):
        if "group" not in emoji:  # letters that flags are spelt with
            continue
        for each in (emoji, *emoji.get("skins", ())):
            code = plain(each["hexcode"])
            found[code] = {
                "code": code,
                "label": " ".join(words(each["label"])),
                "kind": " ".join(words(names["subgroups"][str(emoji["subgroup"])])),
                "tags": [" ".join(words(tag)) for tag in emoji.get("tags", ())],
                "group": groups[emoji["group"]],
                "family": family(code),
            }
    return found


def family(code: str) -> str:
    """Return the code points that make a family: without tone and gender; "family" for parents and children."""
    parts = [ADULT if part in ADULTS else part for part in code.split("-") if part not in IGNORED]
    return "family" if len(parts) > 1 and set(parts) <= {ADULT, *MINORS} else "-".join(parts)


def read_picture(path: Path) -> NDArray[np.uint8]:
    """Return a picture on white, its longer edge shrunk to 64 pixels."""
    drawn = Image.open(path).convert("RGBA")
    edge = max(drawn.size)
    white = Image.new("RGBA", (edge, edge), "white")
    white.alpha_composite(drawn, ((edge - drawn.width) // 2, (edge - drawn.height) // 2))
    return np.asarray(white.convert("RGB").resize((SIZE, SIZE), Image.Resampling.LANCZOS))


def representatives(rows: Sequence[Row]) -> dict[str, int]:
    """Return the row that stands for each family: of the fewest code points, and the first of these."""
    first: dict[str, int] = {}
    for i, row in enumerate(rows):
        best = rows[first.setdefault(row["family"], i)]
        if (row["code"].count("-"), row["code"]) < (best["code"].count("-"), best["code"]):
            first[row["family"]] = i
    return first


def merge_alike(rows: Sequence[Row], first: Mapping[str, int], pictures: NDArray[np.uint8]) -> None:
    """Join families whose representatives look alike, chains included, under the first one's name."""
    names = sorted(first)
    small = np.stack([pictures[first[name]].reshape(16, 4, 16, 4, 3).mean((1, 3)).ravel() / 255 for name in names])
    root = {name: name for name in names}

    def find(name: str) -> str:
        return name if root[name] == name else find(root[name])

    for i, name in enumerate(names):
        near = np.sqrt(np.square(small[i + 1 :] - small[i]).mean(1)) < ALIKE
        for j in np.flatnonzero(near):
            low, high = sorted((find(name), find(names[i + 1 + j])))
            root[high] = low
    for row in rows:
        row["family"] = find(row["family"])


def choose_tags(rows: Sequence[Row], first: Mapping[str, int]) -> None:
    """Keep of each row's tags, rarest first, the words that `COMMON` families have and its label and kind do not say.

    What is known is what its captions may then say.
    """
    count = Counter(tag for i in first.values() for tag in set(rows[i]["tags"]))
    for row in rows:
        said = set(f"{row['label']} {row['kind']}".split())
        usable = [tag for tag in row["tags"] if tag.isalpha() and len(tag) > 2 and count[tag] >= COMMON]
        row["tags"] = sorted(set(usable) - said, key=lambda tag: (count[tag], tag))
        row["known"] = said.union(row["tags"])


def split(rows: Sequence[Row], first: Mapping[str, int]) -> None:
    """Write each row's part: "heldout", "a" or "b"; by its family alone."""
    certain = [i for name, i in first.items() if rank(name) >= HELDOUT_SHARE]
    count = Counter(word for i in certain for word in rows[i]["known"])
    members: defaultdict[str, list[Row]] = defaultdict(list)
    for row in rows:
        members[row["family"]].append(row)
    for name, i in first.items():
        known = all(count[word] >= KNOWN for word in rows[i]["label"].split())
        half = "a" if rank(f"{name}:half") < 0.5 else "b"
        for row in members[name]:
            row["part"] = "heldout" if known and rank(name) < HELDOUT_SHARE else half


def rank(name: str) -> float:
    """Return the fixed pseudo-random place of a family in [0, 1)."""
    return fixed_share(f"{SALT}:{name}")


def sheet(pictures: Iterable[NDArray[np.uint8]]) -> Image.Image:
    """Return pictures side by side, `COLUMNS` a row; what is left of the last row is white."""
    listed = list(pictures)
    white = np.full_like(listed[0], 255)
    listed += [white] * (-len(listed) % COLUMNS)
    grid = np.stack(listed).reshape(-1, COLUMNS, SIZE, SIZE, 3).transpose(0, 2, 1, 3, 4)
    return Image.fromarray(grid.reshape(-1, COLUMNS * SIZE, 3))


if __name__ == "__main__":
    main()
