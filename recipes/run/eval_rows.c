/* Problem by problem: sums over a problem's samples, one JSON line each. */
#include "recipes/run/eval_rows.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "core/base/check.h"
#include "recipes/model/eval_curve.h"
#include "recipes/run/run_folder.h"

struct EvalRows {
    const Tokenizer *tokenizer;
    Json *row;            /* of the problem at hand; NULL: none */
    CurveSample *samples; /* [of] */
    int k, of;            /* samples of the problem so far, and in all */
    double correct, any, format, language, length, truncated;
    Json **list; /* the rows so far, [n] */
    int n;
};

EvalRows *eval_rows_new(const Tokenizer *t, int k)
{
    EvalRows *e = calloc(1, sizeof *e);
    CHECK(e);
    e->tokenizer = t;
    e->of = k;
    e->samples = calloc((size_t)k, sizeof *e->samples);
    CHECK(e->samples);
    return e;
}

static void set_number(Json *o, const char *key, double v)
{
    json_set(o, key, json_new_number(v));
}

static void set_shares(EvalRows *e, const Problem *p)
{
    json_set(e->row, "k", json_new_int(e->k));
    set_number(e->row, "pass@1", e->correct / e->k);
    set_number(e->row, "pass@k", e->any);
    set_number(e->row, "cons@k", (double)curve_vote(p, e->samples, NULL, e->k));
    set_number(e->row, "format", e->format / e->k);
    set_number(e->row, "language", e->language / e->k);
    set_number(e->row, "length", e->length / e->k);
    set_number(e->row, "truncated", e->truncated / e->k);
}

static void finish_row(EvalRows *e)
{
    if (e->row) {
        e->list = realloc(e->list, (size_t)(e->n + 1) * sizeof *e->list);
        CHECK(e->list);
        e->list[e->n++] = e->row;
    }
    e->row = NULL;
    for (int i = 0; i < e->k; i++) free((char *)e->samples[i].answer);
    e->k = 0;
    e->correct = e->any = e->format = e->language = e->length = e->truncated = 0;
}

static void begin_row(EvalRows *e, const Problem *p, const char *completion, Verdict v)
{
    finish_row(e);
    e->row = json_new_object();
    json_set(e->row, "task", json_new_text(p->task->name));
    json_set(e->row, "kind", json_new_text(prompt_kind_name((int)p->kind)));
    json_set(e->row, "index", json_new_int((int64_t)p->index));
    json_set(e->row, "prompt", json_new_text(p->prompt));
    if (p->answer) json_set(e->row, "answer", json_new_text(p->answer));
    json_set(e->row, "completion", json_new_text(completion));
    json_set(e->row, "reason", json_new_text(reason_name(v.reason)));
}

static double count_tokens(const Tokenizer *t, const char *text)
{
    Ids ids = {0};
    tokenizer_encode(t, text, strlen(text), &ids);
    double n = ids.n;
    free(ids.ids);
    return n;
}

static void add_general(EvalRows *e, const Problem *p, Parsed parsed, Verdict v)
{
    char *answer = parsed_answer(parsed);
    double score = p->task->oracle && answer ? (double)p->task->oracle(p, answer) : (double)v.score;
    if (v.reason == REASON_TRUNCATED) score = 0;
    set_number(e->row, p->kind == KIND_SAFETY ? "safe" : "helpful", score);
    free(answer);
}

void eval_rows_add(EvalRows *e, const Problem *p, int sample, const char *completion, Verdict v)
{
    Parsed parsed = completion_parse(completion);
    if (sample == 0) begin_row(e, p, completion, v);
    CHECK(e->row);
    if (p->kind != KIND_REASONING) {
        add_general(e, p, parsed, v);
        return;
    }
    CHECK(sample == e->k && e->k < e->of);
    e->samples[e->k++] = (CurveSample){.answer = parsed_answer(parsed), .score = v.score};
    e->correct += (double)v.score;
    if (v.score >= 1) e->any = 1;
    e->format += parsed.format_ok;
    e->language += parsed.think_length ? (double)task_language_share(p, parsed.think, parsed.think_length) : 1.0;
    e->length += count_tokens(e->tokenizer, completion);
    e->truncated += v.reason == REASON_TRUNCATED;
    if (e->k == e->of) set_shares(e, p);
}

char *eval_rows_text(EvalRows *e, const EvalResult *r)
{
    char *text = NULL, key[32];
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    CHECK(out);
    finish_row(e);
    for (int i = 0, problem = 0; i < e->n; i++) {
        Json *row = e->list[i];
        if (json_get(row, "pass@1")) {
            if (r->best_of > 0) set_number(row, "best", (double)r->chosen[problem]);
            for (int round = 0; round < r->all.rounds; round++) {
                snprintf(key, sizeof key, "refined@%d", round + 1);
                set_number(row, key, (double)r->refined[problem][round]);
            }
            problem++;
        }
        char *line = json_write(row, false);
        fprintf(out, "%s\n", line);
        free(line);
    }
    CHECK(!fclose(out));
    return text;
}

bool eval_rows_write(EvalRows *e, const EvalResult *r, const Run *run, const char *unit, Status *st)
{
    char *folder = run_folder_file(run->folder, "evals", "", ""),
         *path = run_folder_file(run->folder, "evals", unit, ".jsonl"), *text = eval_rows_text(e, r);
    mkdir(folder, 0777); /* a failure shows when the file is written */
    bool ok = run_write_file(path, text, strlen(text), st);
    free(text);
    free(folder);
    free(path);
    return ok;
}

void eval_rows_free(EvalRows *e)
{
    if (!e) return;
    finish_row(e);
    for (int i = 0; i < e->n; i++) json_free(e->list[i]);
    free(e->list);
    free(e->samples);
    free(e);
}
