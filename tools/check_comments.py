"""Check the one style of comments: a capital first, and no full stop after a sentence alone.

Run it from the repository's root: ``python tools/check_comments.py``; with ``--fix`` it mends what
it finds.
"""

import io
import re
import sys
import tokenize
from pathlib import Path

ROOT = Path(__file__).parents[1]
# The comments of examples are the text of their pages
FOLDERS = ("sklearn_medfuse", "tests", "benchmarks", "tools")
# Comments that are read by tools
FOR_TOOLS = re.compile(r"#\s*(noqa|type:|pragma|fmt:|%%|!)")
NEXT_SENTENCE = re.compile(r"(?<!e\.g)(?<!i\.e)(?<!et al)[.?!] [A-Z`\"(λ]")
# Names that begin with a small letter wherever they stand: of libraries, types and variables
SMALL = re.compile(
    r"(scikit|sentence|torch|transformers|peft|captum|joblib|pandas|tableone|sqlite)\b"
    r"|(bool|float32|int64|alpha|logits)\b|\w\b(?! [a-z])|[a-z]+[A-Z_]"
)
MOST_LETTERS = 100


def main():
    """Print each comment of another style; return 1 if there is one that was not mended."""
    fix = "--fix" in sys.argv[1:]
    left = 0
    for path in sorted(file for folder in FOLDERS for file in (ROOT / folder).rglob("*.py")):
        lines = path.read_text(encoding="utf-8").split("\n")
        mended = lines.copy()
        for number, line in [*wrong_starts(lines), *wrong_ends(lines)]:
            if fix and len(line) <= MOST_LETTERS:
                mended[number] = line
            else:
                left += 1
                print(f"{path.relative_to(ROOT)}:{number + 1}: {lines[number].strip()}")
        if mended != lines:
            path.write_text("\n".join(mended), encoding="utf-8")
    return int(bool(left))


def wrong_starts(lines):
    """Give (line number from 0, the line as it should be) of comments with a small letter first."""
    for (row, *_), column in comments(lines):
        mark, text = re.match(r"(#[#: ]*)(.*)", lines[row][column:]).groups()
        if "a" <= text[:1] <= "z" and not SMALL.match(text):
            yield row, lines[row][:column] + mark + text[0].upper() + text[1:]


def wrong_ends(lines):
    """Give (line number from 0, the line as it should be) of comments that end otherwise."""
    for rows, column in comments(lines):
        text = " ".join(lines[row][column:].lstrip("#: ").strip() for row in rows)
        last = lines[rows[-1]].rstrip()
        if NEXT_SENTENCE.search(text):
            if re.search(r"[\w)`'\"]$", text):
                yield rows[-1], f"{last}."
        elif text.endswith(".") and not text.endswith(("..", "etc.", "e.g.")):
            yield rows[-1], last[:-1]


def comments(lines):
    """Give the rows of each comment and its column; rows that follow each other are one comment."""
    found = []
    for token in tokenize.generate_tokens(io.StringIO("\n".join(lines)).readline):
        if token.type != tokenize.COMMENT or FOR_TOOLS.match(token.string):
            continue
        row, column = token.start[0] - 1, token.start[1]
        alone = not lines[row][:column].strip()
        if (
            alone
            and found
            and found[-1][2]
            and found[-1][1] == column
            and found[-1][0][-1] == row - 1
        ):
            found[-1][0].append(row)
        else:
            found.append(([row], column, alone))
    return [(rows, column) for rows, column, _ in found]


if __name__ == "__main__":
    sys.exit(main())
