"""Text: sources, cleaning, splits, tokenizer and the tokenised corpus."""

from sea_ray.corpus.cleaning import clean, text_key
from sea_ray.corpus.config import CorpusConfig, DemoSource, FileSource, HubSource, TokenizerConfig
from sea_ray.corpus.documents import SPLITS, Documents, FunnelRow
from sea_ray.corpus.gather import gather_documents, split_of
from sea_ray.corpus.identification import identify, is_language
from sea_ray.corpus.sources import input_digests
from sea_ray.corpus.tokenized import PartSize, TokenizedCorpus, end_of_text_id, tokenize_documents
from sea_ray.corpus.tokenizer import train_tokenizer

__all__ = [
    "SPLITS",
    "CorpusConfig",
    "DemoSource",
    "Documents",
    "FileSource",
    "FunnelRow",
    "HubSource",
    "PartSize",
    "TokenizedCorpus",
    "TokenizerConfig",
    "clean",
    "end_of_text_id",
    "gather_documents",
    "identify",
    "input_digests",
    "is_language",
    "split_of",
    "text_key",
    "tokenize_documents",
    "train_tokenizer",
]
