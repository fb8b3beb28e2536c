/* The metadata of a written GGUF file: shared by the two files that write one. */
#ifndef CHECKPOINTS_GGUF_WRITE_H
#define CHECKPOINTS_GGUF_WRITE_H

#include "checkpoints/gguf/gguf.h"
#include "checkpoints/gguf/gguf_put.h"

/* Everything but the tensors: general, architecture, tokenizer. */
bool gguf_put_keys(GgufKeys *k, const char *model_name, const ModelConfig *c, GgufTarget target, const Tokenizer *t,
                   Status *st);
/* tokenizer.ggml.*: a vocabulary of kind gpt2 or llama; "none" where tokenizer_to_gguf has none. */
bool gguf_put_tokenizer(GgufKeys *k, const ModelConfig *c, const Tokenizer *t, Status *st);

#endif
