/* Refinement: the model is shown its answer, and a verdict or none, and answers again (Madaan et al. 2023,
 * arXiv:2303.17651, without and with an oracle). */
#ifndef RECIPES_EVAL_REFINE_H
#define RECIPES_EVAL_REFINE_H

#include "recipes/model/prompts.h"

enum { REFINE_ROUNDS = 8 };

typedef enum { FEEDBACK_NONE, FEEDBACK_VERDICT, FEEDBACKS } Feedback;
const char *feedback_name(int k); /* "none", "verdict"; NULL after the last */

/* What the user says after an answer: that it is to be checked; with FEEDBACK_VERDICT what the verifier said of it.
 * Caller frees. */
char *refine_request(const Problem *p, Feedback feedback, Verdict v);

/* The conversation in which the model is to answer again: question, its completion (what the template makes of it),
 * the request. Appends to out. */
bool refine_encode(const Voice *v, const JudgedText *said, Feedback feedback, Ids *out, Status *st);

/* One round over all problems, shares in 0 .. 1. */
typedef struct Refinement {
    double score, se;
    double asked;         /* share of the samples that were asked again: with a verdict those that were not right */
    double fixed, broken; /* of all samples: wrong before and right after, right before and wrong after */
} Refinement;

#endif
