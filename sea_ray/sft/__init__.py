"""Fine-tuning data: conversations of two stages, rendered by the chat template and packed per language."""

from sea_ray.sft.conversation import Conversation, Message, conversation, from_dialogue
from sea_ray.sft.files import FileSource, PairSource, read_file, read_pairs, translation
from sea_ray.sft.packing import PackedSources, pack, pack_conversations, pack_sources
from sea_ray.sft.rendering import Rendered, render, render_all
from sea_ray.sft.stages import REFUSAL_KINDS, SftConfig, StageConfig, build_stage_data, input_digests

__all__ = [
    "REFUSAL_KINDS",
    "Conversation",
    "FileSource",
    "Message",
    "PackedSources",
    "PairSource",
    "Rendered",
    "SftConfig",
    "StageConfig",
    "build_stage_data",
    "conversation",
    "from_dialogue",
    "input_digests",
    "pack",
    "pack_conversations",
    "pack_sources",
    "read_file",
    "read_pairs",
    "render",
    "render_all",
    "translation",
]
