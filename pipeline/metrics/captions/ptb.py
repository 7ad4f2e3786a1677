"""Tokens of the caption metrics: Stanford's Penn Treebank tokenizer, as pycocoevalcap runs it."""

import re
from collections.abc import Sequence
from pathlib import Path
from threading import Lock

from pycocoevalcap.tokenizer import ptbtokenizer as pycoco_ptb

from multispace.pipeline.console.progress import Progress
from multispace.pipeline.metrics.captions.metric import TIME_LIMIT
from multispace.pipeline.metrics.java import JavaError, JavaProgram

PTB_JAR = Path(pycoco_ptb.__file__).parent / pycoco_ptb.STANFORD_CORENLP_3_4_1_JAR
PUNCTUATION = frozenset(pycoco_ptb.PUNCTUATIONS)

# What the tokenizer takes for the end of a line; a caption must stay on its own line.
LINE_BREAKS = re.compile("[\n\r\x0b\x0c\x85\u2028\u2029]")

# An evaluation needs the tokens of a caption several times, and Java takes long to start.
KEPT = 1_000_000  # texts
_kept: dict[str, str] = {}  # tokens of texts of earlier calls
_lock = Lock()  # two threads would tokenize the same texts twice


def tokenize(texts: Sequence[str], time_limit: float = TIME_LIMIT) -> list[str]:
    """Return each text as the metrics' tokens, joined by single spaces.

    These are the Penn Treebank tokens of Stanford CoreNLP in lower case, without the
    punctuation on pycocoevalcap's list (brackets stay, as "-lrb-", because the list has them in
    capitals). A text without other tokens gives an empty string.

    :raises JavaError: the tokenizer fails or exceeds the time limit.
    """
    distinct = dict.fromkeys(texts)
    with _lock:
        tokens = {text: _kept[text] for text in distinct if text in _kept}
        missing = [text for text in distinct if text not in tokens]
        if missing:
            found = dict(zip(missing, _tokenize(missing, time_limit), strict=True))
            if len(_kept) + len(found) > KEPT:
                _kept.clear()
            _kept.update(found)
            tokens |= found
    return [tokens[text] for text in texts]


def _tokenize(texts: Sequence[str], time_limit: float) -> list[str]:
    lines = [LINE_BREAKS.sub(" ", text) for text in texts]
    arguments = ["-cp", str(PTB_JAR), "edu.stanford.nlp.process.PTBTokenizer"]
    arguments += ["-preserveLines", "-lowerCase"]
    with (
        Progress(len(lines), "captions", "tokenize") as progress,
        JavaProgram(arguments, name="the PTB tokenizer", time_limit=time_limit) as program,
    ):
        answers = program.finish(lines, progress.advance)
    if len(answers) != len(lines):
        raise JavaError(
            f"the PTB tokenizer returned {len(answers)} lines for {len(lines)} captions",
            hint="check the captions for control characters",
        )
    return [
        " ".join(token for token in answer.rstrip().split(" ") if token not in PUNCTUATION)
        for answer in answers
    ]
