"""Corpora: folders of clips that any stage can read."""

from distill.corpus.schema import ClipRow, CorpusMetadata, SignClip
from distill.corpus.store import Corpus, CorpusWriter

__all__ = ["ClipRow", "Corpus", "CorpusMetadata", "CorpusWriter", "SignClip"]
