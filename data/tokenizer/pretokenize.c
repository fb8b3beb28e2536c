/* Stages that cut a text into pieces. */
#include "data/tokenizer/pretokenize.h"

#include <stdlib.h>
#include <string.h>

#include "core/base/check.h"
#include "data/text.h"
#include "data/tokenizer/regex.h"

/* What becomes of a match, as tokenizer.json names it. */
typedef enum { ISOLATED, REMOVED, MERGED_WITH_PREVIOUS, MERGED_WITH_NEXT, CONTIGUOUS } Behavior;

typedef struct Stage {
    Regex *regex; /* NULL: the stage splits nothing */
    Behavior behavior;
    bool invert;       /* gaps count as matches and matches as gaps */
    bool prefix_space; /* a piece that does not begin with a space gets one before it is split */
    char *space;       /* Metaspace: what spaces become, and what prefix_space puts in front; NULL: nothing of it */
    bool first_only;   /* Metaspace: only the beginning of a text gets it */
} Stage;

struct Pretokenizer {
    Stage *stages;
    int n;
    bool byte_level;
};

static const char GPT2[] = "'(?:[sdmt]|ll|ve|re)| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";
static const char PUNCTUATION[] = "[\\x21-\\x2F\\x3A-\\x40\\x5B-\\x60\\x7B-\\x7E\\p{P}]";
/* \w of Rust's regular expressions, which also holds the two joiners. */
static const char WORDS[] = "[\\w\\x{200C}\\x{200D}]+|[^\\w\\s\\x{200C}\\x{200D}]+";

static bool add_stage(Pretokenizer *p, const char *pattern, size_t length, bool literal, Stage stage, Status *st)
{
    if (pattern && !(stage.regex = regex_compile(pattern, length, literal, st))) return false;
    p->stages = realloc(p->stages, (size_t)(p->n + 1) * sizeof *p->stages);
    CHECK(p->stages);
    p->stages[p->n++] = stage;
    return true;
}

static bool add_regex(Pretokenizer *p, const char *pattern, Behavior behavior, bool invert, Status *st)
{
    return add_stage(p, pattern, strlen(pattern), false, (Stage){.behavior = behavior, .invert = invert}, st);
}

static bool read_behavior(const Json *config, Behavior *out, Status *st)
{
    static const char *const names[] = {"Isolated", "Removed", "MergedWithPrevious", "MergedWithNext", "Contiguous"};
    const char *name = json_get_string(config, "behavior", "Isolated");
    for (int i = 0; i < 5; i++) {
        if (strcmp(name, names[i])) continue;
        *out = (Behavior)i;
        return true;
    }
    return fail(st,
                "\"behavior\" is \"%.40s\", not one of Isolated, Removed, MergedWithPrevious, MergedWithNext, "
                "Contiguous",
                name);
}

static bool add_split(Pretokenizer *p, const Json *config, Status *st)
{
    const Json *pattern = json_get(config, "pattern");
    const Json *regex = json_get(pattern, "Regex"), *string = json_get(pattern, "String");
    size_t length;
    const char *text = json_string(regex ? regex : string, &length);
    if (!text) return fail(st, "a Split has no \"pattern\" with a \"Regex\" or a \"String\"");
    Stage stage = {0};
    if (!read_behavior(config, &stage.behavior, st)) return false;
    if (!json_get_bool(config, "invert", false, &stage.invert, st)) return false;
    return add_stage(p, text, length, !regex, stage, st);
}

static bool add_digits(Pretokenizer *p, const Json *config, Status *st)
{
    bool individual;
    if (!json_get_bool(config, "individual_digits", false, &individual, st)) return false;
    return add_regex(p, "\\p{N}", individual ? ISOLATED : CONTIGUOUS, false, st);
}

static bool add_byte_level(Pretokenizer *p, const Json *config, Status *st)
{
    Stage stage = {.behavior = ISOLATED};
    bool use_regex;
    if (!json_get_bool(config, "add_prefix_space", true, &stage.prefix_space, st)) return false;
    if (!json_get_bool(config, "use_regex", true, &use_regex, st)) return false;
    p->byte_level = true;
    if (!use_regex && !stage.prefix_space) return true;
    return add_stage(p, use_regex ? GPT2 : NULL, sizeof GPT2 - 1, false, stage, st);
}

/* SentencePiece's spaces: prepend_scheme always, first, never; older files say add_prefix_space. */
static bool add_metaspace(Pretokenizer *p, const Json *config, Status *st)
{
    const char *space = json_get_string(config, "replacement", "\xE2\x96\x81");
    bool split, prefix;
    if (!json_get_bool(config, "split", true, &split, st)) return false;
    if (!json_get_bool(config, "add_prefix_space", true, &prefix, st)) return false;
    const char *scheme = json_get_string(config, "prepend_scheme", prefix ? "always" : "never");
    bool always = !strcmp(scheme, "always"), first = !strcmp(scheme, "first");
    if (!*space || (!always && !first && strcmp(scheme, "never")))
        return fail(st, "Metaspace: \"prepend_scheme\" is \"%.40s\", not one of always, first, never", scheme);
    Stage stage = {.behavior = MERGED_WITH_NEXT, .prefix_space = always || first, .first_only = first};
    stage.space = strdup(space);
    CHECK(stage.space);
    if (add_stage(p, split ? space : NULL, strlen(space), true, stage, st)) return true;
    free(stage.space);
    return false;
}

static bool add_config(Pretokenizer *p, const Json *config, int depth, Status *st);

static bool add_sequence(Pretokenizer *p, const Json *config, int depth, Status *st)
{
    const Json *list = json_get(config, "pretokenizers");
    if (!json_is_array(list)) return fail(st, "a Sequence has no list \"pretokenizers\"");
    for (size_t i = 0; i < json_count(list); i++)
        if (!add_config(p, json_at(list, i), depth + 1, st)) return false;
    return true;
}

static bool add_config(Pretokenizer *p, const Json *config, int depth, Status *st)
{
    const char *type = json_get_string(config, "type", "");
    if (p->n >= 64 || depth > 8) return fail(st, "there are more than 64 stages");
    if (p->byte_level) return fail(st, "\"%.40s\" follows ByteLevel, which must be last", type);
    if (!strcmp(type, "Sequence")) return add_sequence(p, config, depth, st);
    if (!strcmp(type, "Split")) return add_split(p, config, st);
    if (!strcmp(type, "Digits")) return add_digits(p, config, st);
    if (!strcmp(type, "ByteLevel")) return add_byte_level(p, config, st);
    if (!strcmp(type, "Metaspace")) return add_metaspace(p, config, st);
    if (!strcmp(type, "Whitespace")) return add_regex(p, WORDS, REMOVED, true, st);
    if (!strcmp(type, "WhitespaceSplit")) return add_regex(p, "\\s", REMOVED, false, st);
    if (!strcmp(type, "Punctuation")) {
        Behavior behavior;
        return read_behavior(config, &behavior, st) && add_regex(p, PUNCTUATION, behavior, false, st);
    }
    return fail(
        st,
        "\"%.40s\" is not supported: only Sequence, Split, Digits, ByteLevel, Metaspace, Punctuation, Whitespace "
        "and WhitespaceSplit are",
        type);
}

Pretokenizer *pretokenizer_new(const Json *config, Status *st)
{
    Pretokenizer *p = calloc(1, sizeof *p);
    CHECK(p);
    if (!config || json_is_null_value(config) || add_config(p, config, 0, st)) return p;
    fail_prefix(st, "pre_tokenizer");
    pretokenizer_free(p);
    return NULL;
}

void pretokenizer_free(Pretokenizer *p)
{
    if (!p) return;
    for (int i = 0; i < p->n; i++) {
        regex_free(p->stages[i].regex);
        free(p->stages[i].space);
    }
    free(p->stages);
    free(p);
}

bool pretokenizer_byte_level(const Pretokenizer *p)
{
    return p->byte_level;
}

/* The cutting of one text. */
typedef struct Run {
    const Pretokenizer *p;
    const char *begin; /* where a whole text begins, NULL: it is the rest of one */
    PieceEmit *emit;
    void *context;
} Run;

/* The cut of one piece by one stage. `held` is a piece that the next one may still join. */
typedef struct Cut {
    const Run *run;
    int next; /* the stage its pieces go to */
    Behavior behavior;
    const char *held;
    size_t held_length;
    bool held_is_match;
} Cut;

static void run_stage(const Run *run, int stage, const char *text, size_t length);

static void release(Cut *c)
{
    if (c->held) run_stage(c->run, c->next, c->held, c->held_length);
    c->held = NULL;
}

/* Joining rules as in HF tokenizers' NormalizedString::split: a match joins the gap before (or after) it, never another
 * match; Contiguous joins equals. */
static void add_part(Cut *c, const char *part, size_t length, bool is_match)
{
    if (c->behavior == REMOVED && is_match) return;
    if (c->behavior == ISOLATED || c->behavior == REMOVED) {
        run_stage(c->run, c->next, part, length);
        return;
    }
    bool joins = c->held && ((c->behavior == MERGED_WITH_PREVIOUS && is_match && !c->held_is_match) ||
                             (c->behavior == MERGED_WITH_NEXT && c->held_is_match && !is_match) ||
                             (c->behavior == CONTIGUOUS && is_match == c->held_is_match));
    if (joins) {
        c->held_length += length;
    } else {
        release(c);
        c->held = part;
        c->held_length = length;
    }
    c->held_is_match = is_match;
}

static void cut_piece(const Run *run, int stage, const char *text, size_t length)
{
    const Stage *s = &run->p->stages[stage];
    Cut c = {.run = run, .next = stage + 1, .behavior = s->behavior};
    size_t at = 0, start, end;
    while (at < length && regex_next(s->regex, text, length, at, &start, &end)) {
        if (start > at) add_part(&c, text + at, start - at, s->invert);
        add_part(&c, text + start, end - start, !s->invert);
        at = end;
    }
    if (at < length) add_part(&c, text + at, length - at, s->invert);
    release(&c);
}

/* What a stage puts in front of a piece and in place of its spaces, as a new string; NULL: it changes nothing. */
static char *with_spaces(const Stage *s, const char *text, size_t length, bool first, size_t *out_length)
{
    const char *space = s->space ? s->space : " ";
    size_t n = strlen(space);
    bool prefix =
        s->prefix_space && text[0] != ' ' && (length < n || memcmp(text, space, n)) && (first || !s->first_only);
    if (!prefix && (!s->space || !memchr(text, ' ', length))) return NULL;
    Text out = {0};
    if (prefix) text_add(&out, space);
    for (size_t i = 0; i < length; i++) {
        if (s->space && text[i] == ' ') text_add_bytes(&out, space, n);
        else text_add_bytes(&out, text + i, 1);
    }
    *out_length = out.n;
    return text_take(&out);
}

static void run_stage(const Run *run, int stage, const char *text, size_t length)
{
    if (stage == run->p->n) {
        run->emit(run->context, text, length);
        return;
    }
    const Stage *s = &run->p->stages[stage];
    char *spaced = with_spaces(s, text, length, text == run->begin, &length);
    const char *piece = spaced ? spaced : text;
    Run inner = *run;
    if (spaced && text == run->begin) inner.begin = spaced;
    if (s->regex) cut_piece(&inner, stage, piece, length);
    else run_stage(&inner, stage + 1, piece, length);
    free(spaced);
}

void pretokenize(const Pretokenizer *p, const char *text, size_t length, bool first, PieceEmit *emit, void *context)
{
    if (length) run_stage(&(Run){p, first ? text : NULL, emit, context}, 0, text, length);
}
