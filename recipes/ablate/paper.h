/* Claims of the papers as commands: recipes/paper/ID.yaml says what is run and what the claim expects of it. */
#ifndef RECIPES_ABLATE_PAPER_H
#define RECIPES_ABLATE_PAPER_H

#include <stdio.h>

#include "data/json.h"
#include "recipes/ablate/arms.h"
#include "recipes/ablate/schedule.h"

enum { CLAIMS = 64, CLAIM_TESTS = 6, CLAIM_EVALS = 8, CLAIM_TEXT = 600, CLAIM_SHOWN = 2 };

/* One side of a test: "[ARM/]STAGE METRIC", the evaluation of a stage; "[ARM/]STAGE.EVAL METRIC", another evaluation of
 * it (`evals`); "[ARM/]STAGE KEY@first", "KEY@last": a number of the stage's metrics in its first or last 10 steps,
 * whose spread stands for the problems'; "[ARM/]STAGE seconds": what the stage took; or "[ARM/]STAGE weights": the
 * weights as such, of which only `equal` can be expected. */
typedef struct ClaimSide {
    char arm[ARM_NAME], unit[96], metric[64];
} ClaimSide;

/* b - a is expected to be above 0 (expect 1), below (-1), or equal (0): not further from 0 than `within`, in the unit
 * that is shown (points, or the metric's own); 0: not at all. CLAIM_SHOWN: nothing is expected, it is only shown. */
typedef struct ClaimTest {
    ClaimSide a, b;
    int expect;
    double within;
    Compared found;  /* seeds 0: not measured yet */
    double means[2]; /* of a and of b, over the seeds that have both */
} ClaimTest;

/* Another evaluation of a stage's checkpoint: `r1 eval RUN/STAGE OPTIONS`, for what a run's own evaluation does not have. */
typedef struct ClaimEval {
    char name[32], stage[64], options[256];
} ClaimEval;

/* A model that is trained and exported before the arms are run: in their settings $model stands for its folder. */
typedef struct ClaimModel {
    char until[64]; /* the stage of the claim's recipe that is exported; "": there is no such model */
    char sets[ARM_SETS][SET_TEXT];
    int n;
} ClaimModel;

typedef struct Claim {
    char id[64], source[CLAIM_TEXT], sentence[CLAIM_TEXT], reported[CLAIM_TEXT];
    char checked[CLAIM_TEXT]; /* against what the reported figures were checked, or "no: .." */
    double minutes;           /* measured or estimated, of three seeds on two processors */
    ClaimModel model;
    Ablation ablation; /* recipe, arms, until */
    ClaimTest tests[CLAIM_TESTS];
    int n_tests;
    ClaimEval evals[CLAIM_EVALS]; /* of every arm */
    int n_evals;
    char failure[512]; /* why it could not be run; "": it could */
} Claim;

/* The built-in claims, in the order of their names; free() the list. NULL with a sentence. */
Claim *claims_read(int *n, Status *st);
/* A claim from text; `where` names it in sentences. */
bool claim_parse(Claim *c, const char *id, const char *text, const char *where, Status *st);

/* Trains and exports the claim's model, if it has one and it is not there, and puts its folder (ablation.out/ID.model.hf)
 * into the settings. */
bool claim_model(Claim *c, const volatile int *cancel, Status *st);
/* Runs the evaluations that are not there yet, `parallel` at once; they lie in evals/STAGE.EVAL.jsonl of each run. */
bool claim_evaluate(const Claim *c, const Sharing *sharing, const volatile int *cancel, Status *st);

/* Reads what the runs under ablation.out measured into the tests, adjusted (Holm) over the claim's own. */
bool claim_measure(Claim *c, Status *st);

typedef enum { CLAIM_UNRUN, CLAIM_REPRODUCED, CLAIM_OPPOSITE, CLAIM_OPEN } ClaimVerdict;
/* All tests as expected; one resolved the other way; else not resolved. */
ClaimVerdict claim_verdict(const Claim *c);
/* 1 as expected, -1 resolved otherwise, 0 not resolved. What is expected to be equal is, when the whole interval is
 * `within`, and is not, when all of it is outside; what is only shown is as expected. */
int claim_test_verdict(const ClaimTest *t);
/* In words: "higher", "equal within 2 points", "not resolved (about 3 more seeds would)". */
const char *claim_test_text(const ClaimTest *t, char out[96]);
/* "higher", "lower", "equal", "nothing" (CLAIM_SHOWN). */
const char *claim_expectation(const ClaimTest *t);
/* "equal within 2", else the same. */
const char *claim_expected(const ClaimTest *t, char out[64]);
const char *
claim_verdict_name(ClaimVerdict v); /* "not run", "reproduced", "not reproduced at this size", "not resolved" */
/* "[ARM/]STAGE METRIC" again. */
const char *claim_side_text(const ClaimSide *s, char out[256]);
/* 100 for shares, 1 for numbers. */
double claim_unit(const ClaimTest *t);

Json *claim_json(const Claim *c);
void claim_print(const Claim *c, FILE *out);
/* A page of n claims. */
char *claims_page(const Claim *list, int n, const char *command);

#endif
