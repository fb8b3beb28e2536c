/* Components that are rules: what can be said of a completion without asking anybody. */
#ifndef DATA_RULES_H
#define DATA_RULES_H

#include "data/reward/reward.h"

/* The unweighted value of a component; NAN where a reward model did not run; 0 for programs. c: the completion taken
 * apart, v: its verdict. */
float rule_part(const RewardSpec *s, const RewardInput *in, const Parsed *c, const Verdict *v);

#endif
