"""Silver: answers, candidates, and every row that was removed."""

from __future__ import annotations

from persona_hub.core.keys import PERSONA_PATTERN
from persona_hub.tables.bronze import SLICE
from persona_hub.tables.model import Column, Table

PERSONA_ID = Column("persona_id", "STRING", "page id / p + number of the question", pattern=f"^{PERSONA_PATTERN}$")
ORIGIN = (
    Column("completion_key", "STRING", "The model call that wrote it: key of silver.completions", length=(64, 64)),
    Column("prompt_id", "STRING", "File stem of the prompt"),
    Column("prompt_hash", "STRING", "Hash of the prompt file"),
    Column("model", "STRING", "Model that was asked"),
)
TEXT_HASH = Column("text_hash", "STRING", "128-bit BLAKE2b of the text", length=(32, 32))
PERSONA = Column("persona", "STRING", "One or two sentences that say who", length=(4, 1000))

QUESTIONS = Table(
    "silver.questions",
    "What was asked about which row: from a persona or sample to its answer, also where the answer was refused.",
    (
        SLICE,
        Column("stage", "STRING", "Stage that asks"),
        Column("data_type", "STRING", "Data type; empty for personas"),
        Column("row_id", "STRING", "Persona or sample that the answer becomes, if it passes the rules"),
        Column("source_id", "STRING", "Page or persona that the question is about"),
        *ORIGIN,
    ),
    key=("row_id",),
    cluster=("slice", "row_id"),
    checks={
        "id_in_source": "startswith(row_id, source_id || '/')",
        "id_in_slice": "startswith(source_id, slice || '/')",
    },
)

COMPLETIONS = Table(
    "silver.completions",
    "The ledger: every answer that was paid for. What is in it is not asked again.",
    (
        Column("completion_key", "STRING", "SHA-256 of model, messages, parameters, schema, sample number and asking"),
        Column("slice", "STRING", "Slice that asked"),
        Column("stage", "STRING", "Stage that asked"),
        Column("data_type", "STRING", "Data type that asked; empty for personas"),
        Column("run_id", "STRING", "Run that asked"),
        Column("prompt_hash", "STRING", "Hash of the prompt file"),
        Column("model", "STRING", "Model that was asked"),
        Column("answered_by", "STRING", "Model named in the answer", True),
        Column("text", "STRING", "The raw answer; null for a failure", True),
        Column("finish_reason", "STRING", "As the endpoint said it", True),
        Column("prompt_tokens", "BIGINT", "As the endpoint counted; null if it did not say", True),
        Column("cached_tokens", "BIGINT", "Prompt tokens from the endpoint's cache", True),
        Column("completion_tokens", "BIGINT", "As the endpoint counted, thoughts included", True),
        Column("reasoning_tokens", "BIGINT", "Completion tokens that were thoughts", True),
        Column("money", "DOUBLE", "Price of the call; null where no price is known, never 0 for that", True),
        Column("latency_s", "DOUBLE", "Seconds from the last send to the answer; in a batch 0"),
        Column("attempts", "BIGINT", "Sends that it took"),
        Column("maybe_paid", "BIGINT", "Sends without an answer that may have been billed all the same"),
        Column("error_class", "STRING", "Class of a failure that a repeat would not cure", True),
        Column("error", "STRING", "What the endpoint said of it", True),
        Column("answered_at", "TIMESTAMP", "When the answer arrived"),
    ),
    # Two slices that ask the same at the same time have each paid, and each row says so.
    key=("slice", "completion_key"),
    cluster=("slice", "completion_key"),
    checks={
        "answer_or_error": "(text IS NULL) <> (error_class IS NULL)",
        "money_known": "money IS NULL OR money >= 0",
        "asked": "attempts >= 1 AND maybe_paid >= 0",
    },
)

CANDIDATES = Table(
    "silver.persona_candidates",
    "Personas as they were read from answers, rules passed, before deduplication.",
    (SLICE, PERSONA_ID, Column("page_id", "STRING", "Page it came from"), PERSONA, TEXT_HASH, *ORIGIN),
    key=("persona_id",),
    cluster=("slice", "persona_id"),
    checks={"id_in_page": "startswith(persona_id, page_id || '/')", "id_in_slice": "startswith(page_id, slice || '/')"},
)

SURVIVORS = Table(
    "silver.persona_survivors",
    "Candidates that both dedup steps kept, against the hub up to `hub_publication`; what publication starts from.",
    (
        *CANDIDATES.columns,
        Column("hub_publication", "BIGINT", "Newest publication of the hub that it was compared with; 0: an empty hub"),
        Column(
            "compared_by", "STRING", "JSON: how, step by step; publication compares once more, and must do it alike"
        ),
    ),
    key=("persona_id",),
    cluster=("slice", "persona_id"),
    checks=CANDIDATES.checks,
)

CORPUS = Column("corpus", "STRING", "What is deduplicated together: `personas`, or the name of a data type")
SIGNED_ROW = (
    CORPUS,
    SLICE,
    Column("row_id", "STRING", "Persona or sample"),
    TEXT_HASH,
)

_BLOCK = (
    CORPUS,
    SLICE,
    Column("rows", "BIGINT", "Rows whose signatures are in the block"),
)

WORD_KEYS = Table(
    "silver.word_keys",
    "Signatures of word sets, and of runs of words, thousands of rows in one block: rows that share a key are compared. Only ever added to; a row whose text has changed is in several.",
    (
        *_BLOCK,
        Column("made_with", "STRING", "Measure, method and threshold: only keys made alike can be compared"),
        Column(
            "block",
            "BINARY",
            "Row and text by xxhash64, hash and sketch of the set, its size, its keys (`dedup/word_blocks.py`)",
        ),
    ),
    key=("corpus", "slice", "made_with", "block"),
    cluster=("corpus", "slice"),
    bounds=("corpus", "slice"),
)

VECTORS = Table(
    "silver.vectors",
    "Embeddings: computed once per distinct text and model. Only ever added to.",
    (
        *SIGNED_ROW,
        Column("embedding_model", "STRING", "sentence-transformers model, and the precision of its weights"),
        Column("vector", "BINARY", "Half precision (float16), little-endian, of length 1"),
    ),
    key=("corpus", "row_id", "text_hash", "embedding_model"),
    cluster=("corpus", "slice", "row_id"),
    bounds=("corpus", "slice", "row_id"),
    checks={"vector_present": "length(vector) > 0 AND length(vector) % 2 = 0"},
)

VECTOR_CELLS = Table(
    "silver.vector_cells",
    "Where vectors lie, thousands of rows in one block: the cell and the next ones, and a code of 384 bits. What is compared, without reading vectors.",
    (
        *_BLOCK,
        Column("embedding_model", "STRING", "As in silver.vectors"),
        Column("cells_version", "BIGINT", "Version of the centroids in silver.dedup_references; 0: one cell for all"),
        Column(
            "block",
            "BINARY",
            "Row and text by xxhash64, numbers of cells by falling cosine, the code (`dedup/cell_blocks.py`)",
        ),
    ),
    key=("corpus", "slice", "embedding_model", "cells_version", "block"),
    cluster=("corpus", "slice"),
    bounds=("corpus", "slice"),
)

REFERENCES = Table(
    "silver.dedup_references",
    "What signatures are made against, learned once from a sample and kept: centroids of cells, the order of words.",
    (
        CORPUS,
        Column("kind", "STRING", "centroids or word_order"),
        Column("made_with", "STRING", "Embedding model of centroids; empty for words"),
        Column("version", "BIGINT", "From 1; the newest is used"),
        Column("parameters", "STRING", "JSON: rows of the sample, cells, dimensions"),
        Column(
            "payload", "BINARY", "Centroids as float32, or 64-bit hashes of words by falling frequency; little-endian"
        ),
        Column("run_id", "STRING", "Run that learned it"),
        Column("made_at", "TIMESTAMP", "When"),
    ),
    key=("corpus", "kind", "made_with", "version"),
)

REMOVALS = Table(
    "silver.removals",
    "Every row that a stage removed, with its reason: a threshold can change without asking a model again.",
    (
        SLICE,
        Column("stage", "STRING", "Stage that removed it"),
        Column("data_type", "STRING", "Data type of a sample; empty for pages and personas"),
        Column("row_id", "STRING", "Page, persona or sample that is gone"),
        Column("rule", "STRING", "Id of the rule: the reason that the funnel counts"),
        Column("detail", "STRING", "What was seen"),
        Column("text", "STRING", "The removed text; of a page nothing but its URL in `detail` stays", True),
        Column("survivor_id", "STRING", "Row that stays in its place, for duplicates", True),
        Column("similarity", "DOUBLE", "Jaccard or cosine to the survivor", True),
        Column("threshold", "DOUBLE", "Threshold that it reached", True),
        Column("method", "STRING", "How the pair was found and measured", True),
        Column("run_id", "STRING", "Run that removed it"),
    ),
    key=("stage", "data_type", "row_id"),
    cluster=("slice", "stage", "row_id"),
    checks={
        "survivor_has_similarity": "(survivor_id IS NULL) = (similarity IS NULL)",
        "similar_enough": "similarity IS NULL OR similarity >= threshold",
    },
)
