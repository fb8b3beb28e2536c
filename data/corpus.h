/* Training documents: the base model's corpus, cold-start traces, general text. A document is a function of
 * (spec, seed, index), so that the cursor of a run is one number. */
#ifndef DATA_CORPUS_H
#define DATA_CORPUS_H

#include "data/dataset.h"
#include "data/task.h"

enum { CORPUS_MAX_SOURCES = 16 };

/* One source of problems: a built-in task at levels [level_min, level_max], or a user's file. */
typedef struct Source {
    const Task *task; /* NULL: dataset */
    const Dataset *dataset;
    int level_min, level_max;
    float weight;
} Source;

typedef struct CorpusSpec {
    Source sources[CORPUS_MAX_SOURCES];
    int n_sources;
    float zh_share;            /* prompts in Chinese */
    float styles[STYLE_COUNT]; /* weights of the styles of documents; all 0: clean */
    float swap_en, swap_zh;    /* probability that the trace of an EN / ZH prompt is in the other language */
} CorpusSpec;

/* Which problem stands at `index` of the mix (train or test split). Built-in tasks are chosen by weight with a counter-based
 * draw. In a mix with a file the sources take turns as their weights say, so that the rows of a file come in order and none
 * comes twice before all have come. */
void corpus_problem(Problem *out, const CorpusSpec *c, uint32_t seed, Split split, uint64_t index);

typedef struct Document {
    Json *messages; /* a conversation that ends with the assistant's message; NULL: text */
    Json *tools;    /* that a template may offer, or NULL */
    char *text;     /* a row that is text */
    int source;     /* index of the mix's source */
    int row;        /* of a file: its place among the split's rows; -1 */
    int line;       /* of a file, 1-based; 0 */
} Document;
/* A prompt and what answers it as a document of the built-in kind. */
Document document_of(const char *prompt, const char *completion);
void document_free(Document *d);
/* Whether there is something to train on: text, or a conversation that the assistant ends. */
bool document_teaches(const Document *d);
/* The document in the plain template, without an end token: what a tokenizer is trained on. Caller frees. */
char *document_text(const Document *d);
/* The training document at `index` (train split): problem + completion in a drawn style. Rows of a file give their own
 * reply (preference rows the chosen one; where there is none the conversation ends with its prompt), text rows their text. */
void corpus_document(Document *out, const CorpusSpec *c, uint32_t seed, uint64_t index);

/* A source's share of the mix, by its weight. */
double corpus_share(const CorpusSpec *c, int source);
/* Documents of a mix after which every training row of its files has come at least once; 0: it has no file. */
uint64_t corpus_epoch(const CorpusSpec *c);

/* A preference pair of the mix's helpful tasks (there must be one; train or test split): two answers of different
 * oracle quality, as often longer as shorter for the better one, the label flipped with probability noise. free all three
 * strings. */
void corpus_helpful_pair(char **prompt, char **chosen, char **rejected, const CorpusSpec *c, uint32_t seed, Split split,
                         uint64_t index, float noise);
/* The preference pair at `index` as two conversations that differ in their last message: row by row where the mix is of files
 * (a row that is no pair fails with its line), else a pair of the mix's helpful tasks. */
bool corpus_preference(Document *chosen, Document *rejected, const CorpusSpec *c, uint32_t seed, Split split,
                       uint64_t index, float noise, Status *st);
/* A labelled example of the mix's safety tasks (there must be one) for the safety model: a prompt and a
 * completion that handles it as it should (refuses, or answers what is harmless) or does not; half of each. */
void corpus_safety_example(char **prompt, char **completion, bool *safe, const CorpusSpec *c, uint32_t seed,
                           Split split, uint64_t index);
/* Whether the mix has a built-in task of that kind. */
bool corpus_has(const CorpusSpec *c, PromptKind kind);

#endif
