/* r1 score: what a model gives to token sequences: log-probs, logits, hidden states, routing, gradients. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoints/part_rest.h"
#include "core/base/check.h"
#include "data/json.h"
#include "core/batches.h"
#include "recipes/cli/command.h"
#include "recipes/cli/commands.h"
#include "recipes/config/did_you_mean.h"
#include "recipes/model/open_model.h"
#include "recipes/plan/placement.h"
#include "recipes/cli/score_file.h"
#include "recipes/cli/token_lines.h"

typedef struct ScoreArgs {
    const char *model, *ids, *text, *out, *with, *aux;
    unsigned parts;
    BalanceConfig balance;
    RuntimeOptions runtime;
} ScoreArgs;

static bool parse_with(const char *list, unsigned *parts, Status *st)
{
    char word[32], hint[64];
    for (const char *p = list; *p;) {
        int n = (int)strcspn(p, ",");
        snprintf(word, sizeof word, "%.*s", n, p);
        Nearest near = nearest_start(word);
        unsigned bit = 0;
        for (int i = 0; i < SCORE_PARTS; i++) {
            if (!strcmp(word, score_part_names[i])) bit = 1u << i;
            nearest_try(&near, score_part_names[i]);
        }
        if (!bit) return fail(st, "--with %s: unknown%s", word, nearest_hint(&near, hint, sizeof hint));
        *parts |= bit;
        p += n + (p[n] == ',');
    }
    return true;
}

static bool parse_aux_item(const char *item, BalanceConfig *b, Status *st)
{
    struct {
        const char *key;
        float *real;
        int *whole;
    } keys[] = {
        {"expert", &b->expert, NULL}, {"device", &b->device, NULL},   {"comm", &b->comm, NULL},
        {"seq", &b->sequence, NULL},  {"devices", NULL, &b->devices}, {"limit", NULL, &b->limit},
    };
    char hint[64], key[32], *end;
    int n = (int)strcspn(item, "=");
    snprintf(key, sizeof key, "%.*s", n, item);
    Nearest near = nearest_start(key);
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        nearest_try(&near, keys[i].key);
        if (strcmp(key, keys[i].key)) continue;
        double v = item[n] ? strtod(item + n + 1, &end) : 0;
        if (!item[n] || *end || end == item + n + 1 || !(v >= 0 && v <= 1e6))
            return fail(st, "--aux %s: expected %s=NUMBER", item, key);
        if (keys[i].real) *keys[i].real = (float)v;
        else *keys[i].whole = (int)v;
        return true;
    }
    return fail(st, "--aux %s: unknown%s", key, nearest_hint(&near, hint, sizeof hint));
}

static bool parse_aux(const char *list, BalanceConfig *b, Status *st)
{
    char item[128];
    *b = (BalanceConfig){.devices = 1, .limit = 1};
    for (const char *p = list; *p;) {
        int n = (int)strcspn(p, ",");
        snprintf(item, sizeof item, "%.*s", n, p);
        if (!parse_aux_item(item, b, st)) return false;
        p += n + (p[n] == ',');
    }
    return balance_on(b) || fail(st, "--aux %s: no weight above 0; give expert, device, comm or seq", list);
}

static int read_args(int argc, char **argv, ScoreArgs *a)
{
    const Option options[] = {
        {"--ids", "FILE", OPTION_TEXT, &a->ids, 0, 0, "JSON lines {\"ids\": [..]}; - is standard input"},
        {"--text", "FILE", OPTION_TEXT, &a->text, 0, 0,
         "instead: a text a line (or a JSON string, or {\"text\": ..}); no BOS is added"},
        {"--out", "FILE", OPTION_TEXT, &a->out, 0, 0, "write tensors to this safetensors file"},
        {"--with", "PARTS", OPTION_TEXT, &a->with, 0, 0,
         "what FILE holds: logits,logprobs,hidden,router,grad (default logprobs)"},
        ADAPTER_OPTION(a->runtime),
        {"--aux", "TERMS", OPTION_TEXT, &a->aux, 0, 0,
         "balance losses: expert=A,device=A,comm=A,seq=A,devices=D,limit=M"},
    };
    const Usage usage = {.name = "score",
                         .arguments = "MODEL --ids FILE.jsonl [options]",
                         .text = "Prints a line {\"logprobs\": [T-1 values], \"nll\": mean} for each sequence, then\n"
                                 "{\"loss\": nll + aux, \"nll\": total over predicted tokens, \"aux\", \"tokens\"}.\n"
                                 "Everything is one batch.\n",
                         .examples = "echo '{\"ids\": [3, 1, 4, 1, 5]}' | r1 score tests/golden/v2_lite --ids -\n",
                         .options = options,
                         .n = sizeof options / sizeof *options,
                         .least = 1,
                         .most = 1,
                         .runtime = &a->runtime};
    Status st = {0};
    int count, code = command_read(&usage, argc, argv, &a->model, &count);
    if (code != COMMAND_GO) return code;
    if (!a->ids == !a->text) return command_usage(&usage, "it needs one of --ids and --text");
    if (a->with && !a->out) return command_usage(&usage, "--with needs --out FILE.safetensors");
    if (!parse_with(a->with ? a->with : "logprobs", &a->parts, &st)) return command_usage(&usage, "%s", st.text);
    if (a->aux && !parse_aux(a->aux, &a->balance, &st)) return command_usage(&usage, "%s", st.text);
    return COMMAND_GO;
}

static bool read_batch(const ScoreArgs *a, const OpenModel *m, BatchBuilder *batch, Status *st)
{
    TokenLines lines;
    int V = m->file->config.V;
    bool ok = a->ids ? token_lines_read(&lines, a->ids, V, a->runtime.skip_bad, st)
                     : open_model_reads_text(m, a->model, st) &&
                           token_lines_encode(&lines, a->text, m->file->tokenizer, V, a->runtime.skip_bad, st);
    if (!ok) return false;
    if (lines.skipped) fprintf(stderr, "r1 score: %d broken lines were left out\n", lines.skipped);
    for (int i = 0; i < lines.n; i++) batch_add(batch, lines.lines[i].ids, lines.lines[i].n, 1);
    token_lines_free(&lines);
    if (!batch_fits(batch, &m->file->config, st)) return fail_prefix(st, "%s", a->ids ? a->ids : a->text);
    return batch->m > 0 ||
           fail(st, "%s: no sequence has two tokens, so nothing is predicted", a->ids ? a->ids : a->text);
}

/* The weights, beside what the batch takes: as many sequences of the longest one's length as hold its tokens. */
static bool read_weights(const ScoreArgs *a, OpenModel *m, const BatchBuilder *batch, PlanWork *of, Status *st)
{
    int longest = 1, N = batch->offsets[batch->nseq];
    for (int s = 0; s < batch->nseq; s++)
        if (batch->offsets[s + 1] - batch->offsets[s] > longest) longest = batch->offsets[s + 1] - batch->offsets[s];
    PlanWork work = *of = (PlanWork){.config = &m->file->config,
                                     .sequences = (N + longest - 1) / longest,
                                     .length = longest,
                                     .predicted = longest - 1};
    size_t bytes = plan_beside_weights(&m->machine, &work, st);
    if (!m->file->weights && !placing_fits(&m->machine, m->file, bytes)) {
        m->machine.options.chunk = placing_chunk(&m->machine);
        bytes = plan_beside_weights(&m->machine, &work, st);
    }
    size_t kept = 0, gradients = m->file->table.total * sizeof(float);
    if (a->aux || (a->parts & (SCORE_HIDDEN | SCORE_ROUTER | SCORE_GRAD)))
        kept = (size_t)N * ((size_t)m->file->config.C + (size_t)m->file->config.E) * (size_t)m->file->config.L *
               sizeof(float);
    if (st->failed) return false;
    if (!(a->parts & SCORE_GRAD) || placing_fits(&m->machine, m->file, bytes + kept + gradients))
        return open_model_weights(m, bytes + kept, st);
    work.trains = true;
    m->machine.options.chunk = placing_chunk(&m->machine);
    bytes = plan_beside_weights(&m->machine, &work, st) + kept + file_block_most();
    if (st->failed || !open_model_placed(m, bytes, st)) return false;
    m->policy->engine.keep_bytes = 0; /* every layer is computed again in backward */
    return true;
}

/* Room for the gradients of a placed model in a file beside --out: each is finished when backward leaves its part. */
static bool rest_gradients(PartRest *rest, const ScoreArgs *a, OpenModel *m, Status *st)
{
    const char *slash = strrchr(a->out, '/');
    char folder[4096];
    size_t bytes = m->policy->engine.table.state_total * sizeof(float);
    snprintf(folder, sizeof folder, "%.*s", slash ? (int)(slash - a->out) + 1 : 1, slash ? a->out : ".");
    FileBlock *block = file_block_open(folder, bytes, file_block_most(), st);
    if (!block) return false;
    fprintf(stderr, "r1 score: gradients, %.3g GB, rest in %s until they are in %s\n", (double)bytes / 1e9, folder,
            a->out);
    *rest = part_rest_open(NULL, block, &m->policy->engine.table);
    m->policy->lent = file_block_memory(block);
    m->policy->lent_keeper = &rest->keeper;
    return true;
}

/* Log-probs of all predictions, the tape of the forward (in the arena), values of the balance losses. */
static void forward(const ScoreArgs *a, OpenModel *m, const BatchBuilder *batch, ScoreResult *r)
{
    Engine *e = &m->policy->engine;
    bool tape = a->aux || (a->parts & (SCORE_HIDDEN | SCORE_ROUTER));
    Predictions predict = batch_predictions(batch);
    r->lp = malloc((size_t)batch->m * sizeof *r->lp);
    CHECK(r->lp != NULL);
    HeadOut out = {.lp = r->lp};
    train_forward(e, &m->policy->w, batch_view(batch), &predict, 1.0f, tape ? TAPE_HIDDEN : TAPE_NONE, &r->tape, &out);
    r->nll = -sum_in_blocks(r->lp, batch->m) / batch->m;
    r->balanced = model_balance(e, &r->tape, a->aux ? &a->balance : NULL, &r->losses);
    r->aux = r->balanced ? balance_losses_aux(&r->losses) : 0.0;
}

/* The gradient of nll + aux into the policy's block. */
static void gradients(const ScoreArgs *a, OpenModel *m, const BatchBuilder *batch)
{
    float *weight = malloc((size_t)batch->m * sizeof *weight);
    CHECK(weight != NULL);
    nll_weights_mean(weight, batch->targets, batch->m);
    NllLoss nll = {weight};
    Loss loss = nll_loss(&nll);
    TrainStep task = {.batch = batch_view(batch),
                      .predict = batch_predictions(batch),
                      .inv_temperature = 1.0f,
                      .loss = &loss,
                      .balance = a->aux ? &a->balance : NULL};
    TrainOut out;
    policy_gradients_open(m->policy);
    train_gradients(&m->policy->engine, &m->policy->w, &m->policy->g, &task, &out);
    free(weight);
}

static bool all_finite(const ScoreResult *r, const BatchBuilder *batch, Status *st)
{
    const float *lp = r->lp;
    for (int s = 0; s < batch->nseq; s++)
        for (int i = batch->offsets[s] + 1; i < batch->offsets[s + 1]; i++, lp++)
            if (!isfinite(*lp))
                return fail(
                    st,
                    "the log-prob of token %d of sequence %d is not finite: a weight is no number or far too large (r1 "
                    "inspect MODEL --sha256 looks for it)",
                    i - batch->offsets[s] + 1, s + 1);
    return true;
}

static void print_line(Json *o)
{
    char *text = json_write(o, false);
    puts(text);
    free(text);
    json_free(o);
}

static void print_scores(const ScoreResult *r, const BatchBuilder *batch)
{
    const float *lp = r->lp;
    for (int s = 0; s < batch->nseq; s++) {
        int predicted = batch->offsets[s + 1] - batch->offsets[s] - 1;
        Json *line = json_new_object(), *list = json_new_array();
        double sum = 0;
        for (int i = 0; i < predicted; i++, lp++) {
            sum += *lp;
            json_append(list, json_new_number(*lp));
        }
        json_set(line, "logprobs", list);
        json_set(line, "nll", predicted ? json_new_number(-sum / predicted) : json_new_null());
        print_line(line);
    }
    Json *last = json_new_object();
    json_set(last, "loss", json_new_number(r->nll + r->aux));
    json_set(last, "nll", json_new_number(r->nll));
    json_set(last, "aux", json_new_number(r->aux));
    json_set(last, "tokens", json_new_int(batch->m));
    print_line(last);
}

static bool score(const ScoreArgs *a, OpenModel *m, Status *st)
{
    BatchBuilder batch = {0};
    PlanWork work;
    PartRest rest = {0};
    ScoreResult r = {.policy = m->policy, .batch = &batch, .parts = a->parts, .balance = a->aux ? &a->balance : NULL};
    bool ok = open_model_speaks(m, a->model, st) && (!a->aux || balance_validate(&a->balance, &m->file->config, st)) &&
              read_batch(a, m, &batch, st) && read_weights(a, m, &batch, &work, st);
    r.policy = m->policy;
    if (ok) {
        forward(a, m, &batch, &r);
        placement_compare(&m->machine, m->file, &m->placing, &work);
        ok = keeper_fault(m->policy->w.keeper, st) && all_finite(&r, &batch, st);
    }
    if (ok) {
        print_scores(&r, &batch);
        ok = !a->out || score_file_open(&r, a->out, st);
    }
    if (ok && a->out) {
        ok = score_file_forward(&r, st);
        bool wanted = a->parts & SCORE_GRAD;
        if (ok && wanted && m->placing.pool) ok = rest_gradients(&rest, a, m, st);
        if (ok && wanted) {
            gradients(a, m, &batch);
            ok = keeper_fault(m->policy->w.keeper, st) && score_file_gradients(&r, st);
        }
        ok = score_file_close(&r, ok, st);
    }
    if (ok) ok = m->machine.ops->fault(m->machine.backend, st);
    file_block_close(rest.block);
    part_rest_close(&rest);
    batch_free(&batch);
    free(r.lp);
    return ok;
}

int cmd_score(int argc, char **argv)
{
    ScoreArgs a = {.runtime = runtime_defaults()};
    Status st = {0};
    OpenModel m;
    int code = read_args(argc, argv, &a);
    if (code != COMMAND_GO) return code;
    if (!open_model_file(&m, a.model, &a.runtime, &st)) return command_failed(&st);
    bool ok = score(&a, &m, &st);
    open_model_close(&m);
    return ok ? 0 : command_failed(&st);
}
