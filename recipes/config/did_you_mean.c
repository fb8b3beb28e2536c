/* Edit distance, and the nearest candidate so far. */
#include "recipes/config/did_you_mean.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

enum { LONGEST = 64 };

static int min3(int a, int b, int c)
{
    int m = a < b ? a : b;
    return m < c ? m : c;
}

int edit_distance(const char *a, const char *b)
{
    int n = (int)strnlen(a, LONGEST), m = (int)strnlen(b, LONGEST);
    int d[LONGEST + 1][LONGEST + 1];
    for (int i = 0; i <= n; i++) d[i][0] = i;
    for (int j = 0; j <= m; j++) d[0][j] = j;
    for (int i = 1; i <= n; i++) {
        for (int j = 1; j <= m; j++) {
            d[i][j] = min3(d[i - 1][j] + 1, d[i][j - 1] + 1, d[i - 1][j - 1] + (a[i - 1] != b[j - 1]));
            bool swapped = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
            if (swapped && d[i - 2][j - 2] + 1 < d[i][j]) d[i][j] = d[i - 2][j - 2] + 1;
        }
    }
    return d[n][m];
}

Nearest nearest_start(const char *word)
{
    int length = (int)strnlen(word, LONGEST);
    return (Nearest){word, NULL, (length / 3 > 2 ? length / 3 : 2) + 1};
}

void nearest_try(Nearest *n, const char *candidate)
{
    int d = edit_distance(n->word, candidate);
    if (d >= n->distance || d >= (int)strnlen(candidate, LONGEST)) return;
    n->distance = d;
    n->best = candidate;
}

const char *nearest_hint(const Nearest *n, char *out, size_t size)
{
    out[0] = 0;
    if (n->best) snprintf(out, size, ", did you mean '%s'?", n->best);
    return out;
}
