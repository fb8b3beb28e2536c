/* The losses of core/losses on numbers from standard input, for tests/peers/trl_losses.py: a line a question, a line of numbers
 * an answer (loss or advantages first, then derivatives). Counts come before lists. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/losses/dpo.h"
#include "core/losses/grpo.h"
#include "core/losses/ppo.h"

enum { MOST = 4096 };

static double number(void)
{
    double x;
    if (scanf("%lf", &x) != 1) exit(1);
    return x;
}

static int count(void)
{
    int n = (int)number();
    if (n < 1 || n > MOST) exit(1);
    return n;
}

static void list(float *x, int n)
{
    for (int i = 0; i < n; i++) x[i] = (float)number();
}

static void print(const float *x, int n)
{
    for (int i = 0; i < n; i++) printf(" %.9g", (double)x[i]);
}

/* Lengths of n outputs: the output of each row. Returns the rows. */
static int rows_of(int32_t *output, int *length, int n)
{
    int rows = 0;
    for (int i = 0; i < n; i++) {
        length[i] = count();
        for (int t = 0; t < length[i] && rows < MOST; t++) output[rows++] = i;
    }
    return rows;
}

static int kind_of(const char *name)
{
    for (int k = 0; grpo_kind_name(k); k++)
        if (!strcmp(grpo_kind_name(k), name)) return k;
    exit(1);
}

/* KIND clip_low clip_high beta max_length outputs LENGTHS advantage[rows] lp[rows] old_lp[rows] ref_lp[rows]; KL k3. */
static void policy_loss(const char *kind)
{
    static float advantage[MOST], lp[MOST], old_lp[MOST], ref_lp[MOST], weight[MOST], weights[MOST], ratio[MOST],
        kl[MOST], loss[MOST], dlp[MOST];
    static int32_t output[MOST];
    static int length[MOST];
    static uint8_t flags[MOST];
    static GrpoOutput outputs[MOST];
    GrpoConfig c = {.kind = (GrpoKind)kind_of(kind), .estimator = KL_K3, .log_clamp = 20};
    c.clip_low = (float)number(), c.clip_high = (float)number(), c.beta = (float)number(), c.max_length = count();
    int n = count(), rows = rows_of(output, length, n);
    list(advantage, rows), list(lp, rows), list(old_lp, rows), list(ref_lp, rows);
    grpo_token_weights(weights, &c, length, n);
    for (int i = 0; i < rows; i++) weight[i] = weights[output[i]];
    GrpoLoss g = {.config = c,
                  .weight = weight,
                  .advantage = advantage,
                  .old_lp = old_lp,
                  .output = output,
                  .outputs = outputs,
                  .n_outputs = n,
                  .ref_lp = c.beta > 0 ? ref_lp : NULL,
                  .ratio = ratio,
                  .kl = kl,
                  .flags = flags};
    Loss l = grpo_loss(&g);
    if (l.prepare) l.prepare(l.ctx, lp, rows);
    l.eval(l.ctx, &(LossRows){.n = rows, .lp = lp}, &(LossGrads){.loss = loss, .dlp = dlp});
    printf("%.17g", sum_in_blocks(loss, rows));
    print(dlp, rows);
}

/* KIND by_std groups G reward[groups G] */
static void advantages(void)
{
    char kind[32];
    static float reward[MOST], a[MOST];
    if (scanf("%31s", kind) != 1) exit(1);
    bool by_std = number() != 0;
    int n = count(), G = count();
    list(reward, n * G);
    for (int g = 0; g < n; g++) grpo_advantages(a + g * G, reward + g * G, G, by_std);
    grpo_batch_advantages(a, reward, (GrpoKind)kind_of(kind), n, G);
    print(a, n * G);
}

/* beta label_smoothing pairs LENGTHS (chosen, rejected, ...) lp[rows] ref_lp[rows] */
static void dpo(void)
{
    static float lp[MOST], ref_lp[MOST], loss[MOST], dlp[MOST];
    static int32_t output[MOST];
    static int length[MOST];
    static DpoOutput outputs[MOST];
    float beta = (float)number(), smoothing = (float)number();
    int pairs = count(), rows = rows_of(output, length, 2 * pairs);
    list(lp, rows), list(ref_lp, rows);
    DpoLoss d = {beta, smoothing, pairs, ref_lp, output, outputs};
    Loss l = dpo_loss(&d);
    l.prepare(l.ctx, lp, rows);
    l.eval(l.ctx, &(LossRows){.n = rows, .lp = lp}, &(LossGrads){.loss = loss, .dlp = dlp});
    printf("%.17g", sum_in_blocks(loss, rows));
    print(dlp, rows);
}

/* gamma lambda n reward[n] value[n]: advantages, returns */
static void gae(void)
{
    static float reward[MOST], value[MOST], a[MOST], returns[MOST];
    double gamma = number(), lambda = number();
    int n = count();
    list(reward, n), list(value, n);
    ppo_gae(a, returns, reward, value, n, gamma, lambda);
    print(a, n), print(returns, n);
}

/* n weight[n] advantage[n] */
static void whiten(void)
{
    static float weight[MOST], a[MOST];
    int n = count();
    list(weight, n), list(a, n);
    ppo_whiten(a, weight, n);
    print(a, n);
}

/* clip n weight[n] value[n] old[n] returns[n] */
static void values(void)
{
    static float weight[MOST], value[MOST], old[MOST], returns[MOST], loss[MOST], dvalue[MOST];
    float clip = (float)number();
    int n = count();
    list(weight, n), list(value, n), list(old, n), list(returns, n);
    value_loss(loss, dvalue, value, &(ValueLoss){clip, weight, old, returns}, n);
    printf("%.17g", sum_in_blocks(loss, n));
    print(dvalue, n);
}

int main(void)
{
    char what[32];
    while (scanf("%31s", what) == 1) {
        if (!strcmp(what, "advantages")) advantages();
        else if (!strcmp(what, "dpo")) dpo();
        else if (!strcmp(what, "gae")) gae();
        else if (!strcmp(what, "whiten")) whiten();
        else if (!strcmp(what, "values")) values();
        else policy_loss(what);
        printf("\n");
    }
    return 0;
}
