"""sentencepiece_gguf.py: writes sentencepiece_gguf.json: a small SentencePiece BPE (sentencepiece 0.2.3) as a GGUF file names it (tokens,
scores, types), the tokenizer.json that transformers 5.24 converts it to, texts, and the ids of both libraries for them, which must agree."""
import io
import json
import os
import sys
import tempfile

sys.path.pop(0)  # sentencepiece.py beside this file is not the library
import sentencepiece  # noqa: E402
from sentencepiece import sentencepiece_model_pb2 as pb  # noqa: E402
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers  # noqa: E402
from transformers.convert_slow_tokenizer import SentencePieceExtractor  # noqa: E402

WORDS = ("the cat sat on a mat and thought about 12 hats , then said hello world ; what is this ? it is the end of the thought . "
         "aaaa aaa baa abba banana bandana café 你好")
SPACE = "\u2581"
TEXTS = ["the cat", " the  cat ", "what is 12 + 30 ?", "Caf\u00e9 d\u00e9j\u00e0 vu", "\u4f60\u597d\uff0c\u4e16\u754c\u3002", "\U0001F600 x", "a\nb\n\n  c\t",
         "aaaaaaa aaaaaa", "bananananabanana bandana", "abbaabba", " ", "", "th thth the thethe", "x" * 40 + " the " * 12]


def trained():
    out = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([WORDS] * 20), model_writer=out, model_type="bpe", vocab_size=370, byte_fallback=True,
        normalization_rule_name="identity", remove_extra_whitespaces=False, character_coverage=1.0, minloglevel=2)
    return out.getvalue()


raw = trained()
proto = pb.ModelProto.FromString(raw)
sp = sentencepiece.SentencePieceProcessor(model_proto=raw)
tokens, scores = [p.piece for p in proto.pieces], [p.score for p in proto.pieces]
types = [p.type for p in proto.pieces]  # SentencePiece's numbers are GGUF's: 1 normal, 2 unknown, 3 control, 6 byte
for name in ("<think>", "</think>"):
    tokens.append(name)
    scores.append(0.0)
    types.append(4)
with tempfile.TemporaryDirectory() as d:
    with open(os.path.join(d, "tokenizer.model"), "wb") as f:
        f.write(raw)
    found = SentencePieceExtractor(os.path.join(d, "tokenizer.model")).extract(models.BPE)
merges = found["merges"] if isinstance(found, dict) else found[-1]
t = Tokenizer(models.BPE(vocab={x: i for i, x in enumerate(tokens[:-2])}, merges=[tuple(m) for m in merges], unk_token="<unk>", fuse_unk=True, byte_fallback=True))
t.normalizer = normalizers.Sequence([normalizers.Prepend(SPACE), normalizers.Replace(" ", SPACE)])
t.decoder = decoders.Sequence([decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
t.add_special_tokens([AddedToken(s, normalized=False, special=True) for s in ("<unk>", "<s>", "</s>")])
t.add_tokens([AddedToken(s, normalized=False, special=False) for s in ("<think>", "</think>")])
ids = [t.encode(x, add_special_tokens=False).ids for x in TEXTS]
for x, i in zip(TEXTS, ids):
    assert i == sp.encode(x), (x, i, sp.encode(x))
mixed = ["<think> the</think> cat", "</s>the<s> cat"]
ids += [t.encode(x, add_special_tokens=False).ids for x in mixed]
with open("sentencepiece_gguf.json", "w", encoding="utf-8") as f:
    json.dump({"tokens": tokens, "scores": scores, "types": types, "tokenizer": json.loads(t.to_str()), "texts": TEXTS + mixed, "ids": ids}, f,
              ensure_ascii=False, separators=(",", ":"))
    f.write("\n")
