/* One rollout in progress: what the files that run it share. Nobody else includes this. */
#ifndef CORE_ROLLOUT_STATE_H
#define CORE_ROLLOUT_STATE_H

#include "core/rollout/draft.h"
#include "core/rollout/rollout.h"
#include "core/rollout/rollout_need.h"
#include "core/rollout/rollout_rows.h"
#include "core/rollout/routes.h"

/* A prompt whose samples are being started: its pages and the logits of its last token. */
typedef struct Prefill {
    int32_t *pages; /* [tiles of the prompt] */
    int row;        /* of the sampler's logits */
    int to_start;   /* samples not started yet */
} Prefill;

typedef struct Slot {
    int item;       /* prompt * samples + sample, -1: free */
    int length;     /* tokens of the completion so far */
    int sampled;    /* late: tokens that the device sampled or will, `length` of them taken */
    int newest;     /* late: where the last of them is, in Late.tokens */
    int tiles;      /* pages in use */
    int32_t *pages; /* [tiles_max] */
    int pending;    /* its last tokens that the drafting module has not seen */
    int guessed;    /* tokens drafted for this step */
    int32_t guesses[DRAFT_MOST];
    float u[DRAFT_MOST + 1]; /* random numbers of its next tokens */
} Slot;

/* A token that the device samples for a slot, which has another item by now if that one ended. */
typedef struct LateToken {
    Slot *slot;
    int item;
} LateToken;

/* Rounds in flight when decoding is one step late (late.c): a round's tokens are those of its step, then the first ones of
 * the items that it admitted. */
typedef struct Late {
    int slots;       /* 0: no memory yet */
    int32_t *tokens; /* [2][2][2 slots] on the device: of two rounds the ids, then the log-probs */
    Landing landing; /* the same on the host */
    LateToken *list; /* [2][2 slots] whose they are; item -1: nobody's */
    bool flies[2];
    uint64_t ticket[2];
} Late;

struct Sampler {
    Engine *e;
    KvCache cache;
    bool cache_is_open;
    Slot *slots;
    int n_slots, tiles_max;
    int32_t *page_storage;
    int32_t *ids; /* [items][max_tokens] */
    float *logprobs;
    size_t storage;       /* tokens that ids and logprobs hold */
    float *prompt_logits; /* [n_rows][V] on the device: of the last tokens of prompts being started */
    int32_t *free_rows;   /* [n_rows] */
    int n_rows, n_free;
    DraftStates draft; /* most 0: none */
    Routes routes;     /* of the last rollout that kept them */
    Late late;
};

typedef struct Rollout {
    Sampler *s;
    const Weights *w;
    const RolloutSpec *spec;
    const RolloutPrompt *prompts;
    Completion *out;
    Prefill *prefills;  /* [n] */
    int n, next, items; /* prompts; the next item to start; all items */
    int busy;
    double busy_sum; /* of busy slots, over steps with a queue */
    long queued_steps;
    int broken; /* an item whose log-prob was no number; -1: none */
    RolloutStats stats;
} Rollout;

/* sampler.c: slots, pages and storage for the largest request seen so far; late: memory of rounds in flight too. */
bool sampler_reserve(Sampler *s, const RolloutSpec *spec, const RolloutNeed *need, bool late, Status *st);

/* slot.c: a slot's sequence. Tokens that its completion may have beyond `length`; position of the last of `length` tokens; the
 * tokens taken so far. */
int slot_room(const Rollout *r, const Slot *slot, int length);
int slot_position(const Rollout *r, const Slot *slot, int length);
const int32_t *slot_tokens(const Rollout *r, const Slot *slot);
/* Pages of its own for positions from .. to. */
void slot_own_pages(Rollout *r, Slot *slot, int from, int to);
/* u[0 .. n): the random numbers of its tokens after the first `length`. */
void slot_draw(const Rollout *r, Slot *slot, int length, int n);
/* Takes token id into its completion; false: that ended it, and the slot is free. */
bool slot_accept(Rollout *r, Slot *slot, int32_t id, float lp);
void slot_free(Rollout *r, Slot *slot);

/* Where the next tokens of n rows go, and the random numbers that choose them; on the device. */
typedef struct Draws {
    size_t n;
    int32_t *ids;
    float *lp;
    const float *u;
} Draws;

/* admit.c: puts items of the queue into free slots, at least one of each; returns how many, who they are, and the logits that
 * their first tokens are sampled from, in the arena. */
int admit_items(Rollout *r, Slot ***started, float **logits);
/* Fills free slots from the queue and takes their first token. A first token may already end a sample: then the slot is
 * filled again. */
void admit(Rollout *r);
/* Gives back what a prompt held that was not started as a whole. */
void admit_close(Rollout *r);

/* decode.c: a step of every busy slot: one token, and with drafts as many more as were guessed rightly. */
void decode_step(Rollout *r);
/* The step's rows through the model, and its samples; returns the rows' final states, or NULL where the step was recorded. */
const float *decode_rows(Rollout *r, const RolloutRows *rows, const Draws *d);
void decode_sample(Rollout *r, const Draws *d, float *logits);
/* Counts a step of n rows. */
void decode_count(Rollout *r, int n);
/* Draws of the next tokens of m slots, and their end: what was sampled is taken. */
Draws draws_of(Rollout *r, Slot **slots, int m);
void draws_take(Rollout *r, Slot **slots, int m, const Draws *d);

/* late.c: the whole rollout, one step late; false: it was cancelled, or broke. */
bool late_run(Rollout *r);
bool late_reserve(Late *l, Engine *e, int slots, Status *st);
void late_close(Late *l, Engine *e);

#endif
