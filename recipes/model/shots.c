/* Worked examples put before questions. */
#include "recipes/model/shots.h"

#include <stdlib.h>
#include <string.h>

#include "core/base/check.h"

static void append_all(Json *out, const Json *messages)
{
    for (size_t i = 0; i < json_count(messages); i++) json_append(out, json_copy(json_at(messages, i)));
}

/* Training problem `index` of p's family, level and language with its clean completion. */
static void add_worked(Json *out, const Problem *p, uint32_t seed, uint64_t index)
{
    Problem shot;
    task_problem(&shot, p->task, p->level, p->language, seed, SPLIT_TRAIN, index);
    Rng r = rng_stream(seed, RNG_DATA, hash_name("shots"), index);
    char *said = task_completion(&shot, shot.language, STYLE_CLEAN, &r);
    conversation_add(out, "user", shot.prompt);
    conversation_add(out, "assistant", said);
    free(said);
    problem_free(&shot);
}

/* The first training row at or behind `index` that is answered. */
static bool add_row(Json *out, const Dataset *d, uint64_t index, Status *st)
{
    for (int i = 0; i < d->n_train; i++) {
        const DatasetRow *row = dataset_row(d, SPLIT_TRAIN, index + (uint64_t)i);
        if (!row->messages || !row->reply) continue;
        append_all(out, row->messages);
        append_all(out, row->reply);
        return true;
    }
    return fail(st, "%s: no training row has an answer that could be shown", d->path);
}

bool shots_before(Json *messages, const Problem *p, const Source *source, uint32_t seed, int shots, Status *st)
{
    bool ok = true;
    if (shots > 0 && source->dataset && source->dataset->n_test == 0)
        return fail(st, "%s holds no rows out, so examples would be questions too: give --heldout",
                    source->dataset->path);
    for (int k = 0; k < shots && ok; k++) {
        uint64_t index = p->index * (uint64_t)shots + (uint64_t)k;
        if (source->dataset) ok = add_row(messages, source->dataset, index, st);
        else add_worked(messages, p, seed, index);
    }
    return ok;
}

bool shots_add(PromptSet *set, const Voice *v, const Source *source, uint32_t seed, int shots, Status *st)
{
    bool ok = true;
    for (int i = 0; i < set->n && ok; i++) {
        const Problem *p = &set->problems[i];
        Json *messages = conversation_new(), *question = problem_messages(p);
        ok = shots_before(messages, p, source, seed, shots, st);
        append_all(messages, question);
        set->storage[i].n = 0;
        ok = ok && (prompt_encode(v, messages, p->tools, &set->storage[i], st) ||
                    fail_prefix(st, "--shots of %s", p->task->name));
        set->prompts[i].ids = set->storage[i].ids;
        set->prompts[i].n = set->storage[i].n;
        json_free(messages);
        json_free(question);
    }
    return ok;
}
