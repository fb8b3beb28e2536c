/* A task is a generator of problems, a verifier of completions and a writer of worked traces, each with levels.
 * Adding one is one file (data/tasks/NAME.c defining `const Task task_NAME`) and one line in data/tasks/list.h.
 *
 * A completion is text as the R1 paper's template asks: <think> reasoning </think> <answer> answer </answer>.
 * In general families (helpful, refusal) the answer is plain words in the same tags. */
#ifndef DATA_TASK_H
#define DATA_TASK_H

#include <stdbool.h>
#include <stdint.h>

#include "core/base/philox.h"
#include "core/base/status.h"
#include "data/json.h"

typedef enum { LANGUAGE_EN, LANGUAGE_ZH, LANGUAGE_COUNT } Language;
typedef enum { SPLIT_TRAIN, SPLIT_TEST } Split;
typedef enum { KIND_REASONING, KIND_HELPFUL, KIND_SAFETY } PromptKind;
/* "en", "zh" and "reasoning", "helpful", "safety"; NULL after the last. */
const char *language_name(int k);
const char *prompt_kind_name(int k);

/* How a worked document is written (spec: recipe-evidence section 3). */
typedef enum {
    STYLE_CLEAN,    /* <think>correct trace</think><answer>a</answer> */
    STYLE_DIRECT,   /* answer without any tag */
    STYLE_UNTAGGED, /* correct trace, then the answer, without tags */
    STYLE_EMPTY,    /* <think></think><answer>a</answer> */
    STYLE_CORRUPT,  /* tags, a trace with a slip in it, and the (usually wrong) answer that follows from it */
    STYLE_HALF,     /* tags, the first half of the steps missing */
    STYLE_COUNT
} TraceStyle;

/* How the gold answer of a user's row is compared (data/verify.h). */
typedef enum {
    VERIFIER_INTEGER,
    VERIFIER_RATIONAL,
    VERIFIER_EXACT,
    VERIFIER_EXPRESSION,
    VERIFIER_TESTS,
    VERIFIER_CHOICE,
    VERIFIER_COUNT
} Verifier;

typedef struct Task Task;

typedef struct Problem {
    const Task *task;
    uint64_t index;    /* in its list */
    int level;         /* 1 .. task->levels */
    Language language; /* of the prompt; the reasoning should be in it too */
    PromptKind kind;
    bool unsafe;  /* refusal family: the right answer is to refuse */
    uint64_t key; /* hash of the problem itself, the same in both languages: decides its split */
    char *prompt; /* what a user asks; of a conversation its text for people. Owned, as everything below */
    char *answer; /* the gold answer; for helpful prompts the best answer */
    Json *
        messages; /* the conversation that is answered (data/conversation.h); NULL: the prompt is a user's only message */
    Json *tools;       /* the tools that a template may offer; NULL: none */
    Json *row;         /* the JSONL row for rows of a user's file, else NULL */
    Verifier verifier; /* of such a row */
} Problem;
void problem_free(Problem *p); /* what it owns, not the struct */
/* The conversation that a completion answers. Caller frees. */
Json *problem_messages(const Problem *p);

/* A verdict: score in [0, 1], a reason code and the time it took. */
typedef enum {
    REASON_CORRECT,
    REASON_WRONG_ANSWER,
    REASON_NO_ANSWER_TAG,
    REASON_NO_THINK_TAG,
    REASON_EMPTY_THINK,
    REASON_EMPTY_ANSWER,
    REASON_EXTRA_TEXT,
    REASON_UNPARSEABLE,
    REASON_NUMBER_REUSED,
    REASON_NUMBER_UNKNOWN,
    REASON_NUMBER_MISSING,
    REASON_DIVISION_BY_ZERO,
    REASON_NOT_A_PERMUTATION,
    REASON_NOT_SORTED,
    REASON_TRUNCATED,
    REASON_NOT_HELPFUL,
    REASON_UNSAFE,
    REASON_OVER_REFUSAL,
    REASON_TEST_FAILED,
    REASON_TIME,
    REASON_PROGRAM_FAILED,
    REASON_OUTPUT,
    REASON_NO_PROGRAM,
    REASON_NOT_RUN,
    REASON_COUNT
} Reason;
const char *reason_name(Reason r); /* "correct", "wrong answer", "no answer tag", ... */

typedef struct Verdict {
    float score;
    Reason reason;
    float microseconds;
} Verdict;

/* An attempt at a problem and what it is said to come to: that is true, and it is what is asked for, or not; or it is
 * not true. */
typedef enum { ATTEMPT_FITS, ATTEMPT_FAILS, ATTEMPT_SLIP } Attempt;

struct Task {
    const char *name, *help, *example; /* example: one prompt and answer for `r1 data --list` */
    const char *separator;             /* between the steps of a trace */
    PromptKind kind;
    int levels;
    /* Fills prompt, answer, key (and unsafe) of a problem whose task, level, language are set; draws only from r. */
    void (*generate)(Problem *p, Rng *r);
    /* score and reason for the answer text between the answer tags (tags were parsed, answer is trimmed). */
    Verdict (*verify)(const Problem *p, const char *answer);
    /* The steps of a worked trace in `language` (digits and words of that language): returns the number of steps
     * written to steps[] (malloc'ed strings, at most max); slip >= 0: step number `slip` (modulo their number) holds
     * a mistake, and *answer (malloc'ed) is what follows from it; general families: an answer of lower quality. NULL
     * in tasks of a user's file. */
    int (*trace)(const Problem *p, Language language, int slip, Rng *r, char **steps, int max, char **answer);
    /* Families whose traces try things: what a step LEFT=RIGHT of a thought is (digits are ASCII); NULL: no step is a
     * try. */
    Attempt (*attempt)(const Problem *p, const char *left, const char *right);
    /* Helpful family only: the hidden oracle of quality in [0, 1] of the final answer. Safety family: 1 when safe. */
    float (*oracle)(const Problem *p, const char *answer);
};

int task_count(void);
const Task *task_at(int i);
const Task *task_find(const char *name); /* NULL when unknown */

/* Problem `index` of a task's split: a function of (seed, task, level, language, split, index). Train and test are
 * apart by the hash of (task, problem), whatever the seed and the language: key mod 10 == 0 is test. */
void task_problem(Problem *out, const Task *t, int level, Language language, uint32_t seed, Split split,
                  uint64_t index);

/* The key of a problem of task `t`: a hash of the task's name and `length` bytes that say the problem without words. */
uint64_t task_key(const Task *t, const void *bytes, size_t length);

/* A whole completion for p (caller frees): the style's tags, trace in trace_language, answer. In general families every
 * style but STYLE_CLEAN has an answer of some lower quality. */
char *task_completion(const Problem *p, Language trace_language, TraceStyle style, Rng *r);

/* A completion taken apart: the thought, and behind it (behind the first </think>) the answer: what stands in <answer>
 * tags, else, as models of others end, in the last \boxed{..} or behind the last "####". Views into the text; empty
 * when absent. */
typedef struct Parsed {
    const char *think, *answer;
    size_t think_length, answer_length;
    bool has_think, has_answer;
    bool answer_final; /* tagged: one pair behind the thought only, and nothing but white space after it */
    bool format_ok;    /* exactly <think>non-empty</think> <answer>non-empty</answer>, nothing else but white space; the
                          thought may speak of answer tags */
    Reason format_reason;
} Parsed;
Parsed completion_parse(const char *text);
/* A malloc'ed copy of the answer without white space around it; NULL when there is none. */
char *parsed_answer(Parsed parsed);

/* Accuracy verdict of a completion: truncated, a missing, empty, second or not final answer first, then the task's
 * verifier (or the row's). It judges the answer only: what stands before it is the format's business. */
Verdict task_verify(const Problem *p, const char *completion, bool truncated);

/* A completion to be judged, and its verdict. */
typedef struct JudgedText {
    const Problem *problem;
    const char *completion;
    bool truncated;
    Verdict verdict;
    Json *tests; /* of a program: [{"reason", "microseconds", "said"}], one a test; else NULL. Owned */
} JudgedText;
/* task_verify of many: what has tests (VERIFIER_TESTS) runs in one pool of sandboxes. Fails where there is none;
 * task_verify's reason is then "not run". */
bool task_verify_all(JudgedText *list, int n, Status *st);

/* Whether two answers of reasoning problem p say the same (1/2 and 0.5, 7 and 07): they are the same bytes, or the
 * verifier takes each for right where the other is the gold answer. Votes are counted by it. */
bool task_agree(const Problem *p, const char *a, const char *b);

/* Share of the words in `text` that are of `language` (English: words of Latin letters; Chinese: Han characters);
 * words of other scripts count against both, numbers and single Greek letters for none. 1 when there is no word. */
float language_share(const char *text, size_t length, Language language);
/* The same for reasoning about p, in its prompt's language. In the built-in tasks English is written in ASCII digits
 * and Chinese in Chinese numerals, so there a digit is an English word. */
float task_language_share(const Problem *p, const char *text, size_t length);

#endif
