/* Claims of the papers as commands: recipes/paper/ID.yaml says what is run and what the claim expects of it. */
#ifndef RECIPES_ABLATE_PAPER_H
#define RECIPES_ABLATE_PAPER_H

#include <stdio.h>

#include "data/json.h"
#include "recipes/ablate/arms.h"

enum { CLAIMS = 64, CLAIM_TESTS = 6, CLAIM_TEXT = 600 };

/* One side of a test: "[ARM/]STAGE METRIC", the evaluation of a stage; or "[ARM/]STAGE KEY@first", "KEY@last": the
 * mean of a number of the stage's metrics over its first or last 10 steps. */
typedef struct ClaimSide {
    char arm[ARM_NAME], unit[96], metric[64];
} ClaimSide;

/* b - a is expected to be above 0 (expect 1), or below (-1). */
typedef struct ClaimTest {
    ClaimSide a, b;
    int expect;
    Compared found; /* seeds 0: not measured yet */
} ClaimTest;

typedef struct Claim {
    char id[64], source[CLAIM_TEXT], sentence[CLAIM_TEXT], reported[CLAIM_TEXT];
    double minutes;    /* measured or estimated, of three seeds on two processors */
    Ablation ablation; /* recipe, arms, until */
    ClaimTest tests[CLAIM_TESTS];
    int n_tests;
    char failure[512]; /* why it could not be run; "": it could */
} Claim;

/* The built-in claims, in the order of their names; free() the list. NULL with a sentence. */
Claim *claims_read(int *n, Status *st);
/* A claim from text; `where` names it in sentences. */
bool claim_parse(Claim *c, const char *id, const char *text, const char *where, Status *st);

/* Reads what the runs under ablation.out measured into the tests, adjusted (Holm) over the claim's own. */
bool claim_measure(Claim *c, Status *st);

typedef enum { CLAIM_UNRUN, CLAIM_REPRODUCED, CLAIM_OPPOSITE, CLAIM_OPEN } ClaimVerdict;
/* All tests as expected; one resolved the other way; else not resolved. */
ClaimVerdict claim_verdict(const Claim *c);
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
