/* Answers as people and models write them, brought to one spelling: what every verifier reads.
 *
 * Taken away around an answer: blanks, $..$, \(..\), \[..\], **..**, \boxed{..} (the last one, with whatever stands beside it),
 * \text{..} and its relatives, a final point. Put in place of their relatives: Unicode's minus signs, times, division, full-width
 * digits and signs, LaTeX's \times \cdot \div \left \right \, \! \%, and {,}. */
#ifndef DATA_ANSWER_H
#define DATA_ANSWER_H

#include <gmp.h>
#include <stdbool.h>
#include <stddef.h>

/* The content of the last \boxed{..} or \fbox{..} with matching braces in a text. False: there is none. */
bool answer_boxed(const char *text, size_t n, const char **inside, size_t *length);

/* The answer without what stands around it, as a new string. Caller frees. */
char *answer_bare(const char *answer);
/* The same with one spelling of signs and digits. Caller frees. */
char *answer_plain(const char *answer);

typedef enum { NUMBER_READ, NUMBER_NONE, NUMBER_DIVIDED_BY_ZERO } NumberStatus;
/* The one number that an answer is, exactly: 72, +72, 1,234 (groups of three), 0.75, .75, 5., 1e3, 1.5 \times 10^{-2}, 3/4,
 * 1 / 2, \frac{3}{4}, \frac34, $72, and a percentage as hundredths (75% is 3/4). Two numbers, units and words are none. */
NumberStatus answer_number(const char *answer, mpq_t value);

/* One spelling for all answers that say the same number ("3/4"), else answer_bare. Caller frees. */
char *answer_canonical(const char *answer);

#endif
