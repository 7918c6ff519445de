"""A small Qwen2 that has read the demo world in all languages for some seconds: it knows much of what it has read by heart."""

from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase, Qwen2Config, Qwen2ForCausalLM

from sea_ray.corpus.config import TokenizerConfig
from sea_ray.corpus.documents import DocumentWriter
from sea_ray.corpus.tokenizer import train_tokenizer
from sea_ray.demo import ExamItem, World
from sea_ray.languages import LANGUAGES

CONTEXT = 1024
DOCUMENTS, STEPS, ROWS, TOKENS = 16, 180, 16, 64
SURE_GAP, SURE_TOKENS = 0.01, 24
WORLD = World(seed=0)


@dataclass(frozen=True)
class Small:
    """The checkpoint and what is certain about it."""

    folder: Path
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    sure: dict[str, str]
    """Text -> its continuation by SURE_TOKENS tokens. Each token leads by a logit gap of SURE_GAP, so that no order of
    summation changes it."""

    @property
    def sure_texts(self) -> list[str]:
        """Texts whose continuation is certain."""
        return list(self.sure)


def make_small(folder: Path) -> Small:
    """Train it."""
    torch.set_num_threads(1)  # beside other tests more are slower
    texts = {code: [*WORLD.documents(code, "train", DOCUMENTS), *(
        exam_text(item) + item.options[item.answer_index] for item in WORLD.exam(code, "train", DOCUMENTS // 4))]
        for code in LANGUAGES}
    with DocumentWriter(folder / "documents", tuple(texts)) as writer:
        for code, some in texts.items():
            writer.append(code, "train", some)
        documents = writer.finish(())
    tokenizer = train_tokenizer(documents, TokenizerConfig(vocab_size=1536, training_bytes_per_language=30_000), seed=0)
    model = _trained([text for some in texts.values() for text in some], tokenizer)
    model.save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    return Small(folder / "model", model, tokenizer, _sure(model, tokenizer))


def exam_text(item: ExamItem) -> str:
    """Return a question and its options, up to where the right option's text follows."""
    return f"{item.prompt()}\n= "


def _trained(texts: list[str], tokenizer: PreTrainedTokenizerBase) -> PreTrainedModel:
    torch.manual_seed(0)
    ids = [token for text in texts for token in (*tokenizer(text)["input_ids"], tokenizer.eos_token_id)]
    rows_RT = torch.tensor(ids[:len(ids) // TOKENS * TOKENS]).view(-1, TOKENS)
    model = Qwen2ForCausalLM(Qwen2Config(
        vocab_size=len(tokenizer), hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=CONTEXT, tie_word_embeddings=False, initializer_range=0.05,
        bos_token_id=None, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id))
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 1e-2, total_steps=STEPS, pct_start=0.1)
    for _ in range(STEPS):
        batch_BT = rows_RT[torch.randint(len(rows_RT), (ROWS,))]
        model(input_ids=batch_BT, labels=batch_BT).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad()
        schedule.step()
    return model.eval()


@torch.no_grad()
def _sure(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> dict[str, str]:
    found = {}
    for code in LANGUAGES:
        for document in WORLD.documents(code, "train", 8):
            text = document[:len(document) // 2]
            ids = tokenizer(text)["input_ids"]
            length, gap = len(ids), float("inf")
            while len(ids) < length + SURE_TOKENS and gap > SURE_GAP and ids[-1] != tokenizer.eos_token_id:
                best = model(torch.tensor([ids])).logits[0, -1].topk(2)
                gap = float(best.values[0] - best.values[1])
                ids.append(int(best.indices[0]))
            if gap > SURE_GAP:
                found[text] = tokenizer.decode(ids[length:], skip_special_tokens=True)
    return found
