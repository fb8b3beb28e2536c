"""One GRPO step by TRL, as it comes: 8 prompts x 16 samples, 12 + 48 tokens, with a reference model:
`python tests/peers/trl_grpo.py grpo_tiny`."""
import sys
import tempfile
import time

import torch
from datasets import Dataset
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast, TrainerCallback
from trl import GRPOConfig, GRPOTrainer

import rows

PROMPTS, SAMPLES, PROMPT_TOKENS, NEW_TOKENS, STEPS = 8, 16, 12, 48, 4


def letters():
    """256 tokens of one character; the last two are padding and the end, which is never sampled."""
    vocab = {chr(0x100 + i): i for i in range(254)} | {"<pad>": 254, "<eos>": 255}
    tokenizer = Tokenizer(models.WordLevel(vocab, unk_token="<pad>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<eos>")


class Clock(TrainerCallback):
    def __init__(self):
        self.seconds = []

    def on_step_begin(self, *args, **kwargs):
        self.start = time.perf_counter()

    def on_step_end(self, *args, **kwargs):
        self.seconds.append(time.perf_counter() - self.start)


def reward(completion_ids, **kwargs):
    return [sum(i % 2 == 0 for i in ids) / len(ids) for ids in completion_ids]


def main(name):
    torch.manual_seed(0)
    tokenizer = letters()
    model = AutoModelForCausalLM.from_config(rows.config("tiny"), dtype=torch.float32)
    model.config.eos_token_id = model.generation_config.eos_token_id = 255
    model.config.pad_token_id = model.generation_config.pad_token_id = 254
    prompts = ["".join(chr(0x100 + (7 * i + 3 * k) % 254) for k in range(PROMPT_TOKENS)) for i in range(PROMPTS * STEPS)]
    clock = Clock()
    with tempfile.TemporaryDirectory() as out:  # on disk, because TRL loads the reference model by path
        model.save_pretrained(out)
        tokenizer.save_pretrained(out)
        trainer = GRPOTrainer(
            model=out, reward_funcs=reward, processing_class=tokenizer, callbacks=[clock],
            train_dataset=Dataset.from_dict({"prompt": prompts}),
            args=GRPOConfig(
                output_dir=out, use_cpu=True, bf16=False, report_to=[], save_strategy="no", logging_strategy="no",
                disable_tqdm=True, per_device_train_batch_size=PROMPTS * SAMPLES, num_generations=SAMPLES,
                max_completion_length=NEW_TOKENS, generation_kwargs={"min_new_tokens": NEW_TOKENS}, beta=0.04,
                gradient_checkpointing=False, learning_rate=1e-6, max_steps=STEPS, num_iterations=1,
                model_init_kwargs={"dtype": "float32"}))
        trainer.train()
    rows.report(name, min(clock.seconds[1:]), PROMPTS * SAMPLES * NEW_TOKENS)


main(sys.argv[1])
