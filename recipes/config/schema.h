/* The key table of recipes: everything a recipe may say is a row here. Reading, defaults, ranges, help, the resolved recipe
 * and `--set` are loops over it (recipes/config/bind.c, recipes/config/merge.c). */
#ifndef RECIPES_SCHEMA_H
#define RECIPES_SCHEMA_H

#include <stddef.h>

typedef enum {
    FIELD_INT,   /* int */
    FIELD_SEED,  /* uint32_t */
    FIELD_REAL,  /* double */
    FIELD_FLOAT, /* float */
    FIELD_BOOL,
    FIELD_TEXT,    /* char[size] */
    FIELD_ENUM,    /* an enum, by name */
    FIELD_SET,     /* unsigned bit set of named bits, written as a list of names */
    FIELD_LEVELS,  /* int[2]: [min, max], or one number for both */
    FIELD_RAMP,    /* BatchRamp: an integer, or {from, to, over} */
    FIELD_TEXTS,   /* RecipeNames: a list of texts, or one */
    FIELD_REALS,   /* double[size]; count: where their number goes (without: exactly size) */
    FIELD_SECTION, /* a nested mapping; count: a bool that says whether it is there (without: always) */
    FIELD_LIST     /* section[size] + count */
} FieldType;

#define FIELD_NONE ((size_t)-1)

/* What a text names on disk: a file; a model (checkpoint, RUN/stage, folder); a stage of the recipe, or a model; a program with
 * its arguments, any of which may be files (recipes/config/paths.h). */
typedef enum { PATH_NONE, PATH_FILE, PATH_MODEL, PATH_STAGE, PATH_COMMAND } PathKind;

struct Section;

typedef struct Field {
    const char *key;
    FieldType type;
    size_t offset, count; /* in the section's struct; count FIELD_NONE: unused */
    int size;
    const char *initial; /* default, as YAML; NULL: must be given */
    const char
        *before; /* what recipes from before the key was there meant, where the default is another; NULL: initial */
    double low, high;              /* numbers: inclusive range */
    const char *(*name)(int i);    /* ENUM, SET: name of value (bit) i, NULL after the last */
    const struct Section *section; /* SECTION, LIST */
    PathKind path;                 /* TEXT */
    unsigned only;                 /* bit set of the section's variants that have this key; 0: all */
    const char *help;
} Field;

typedef struct Section {
    const char *title;
    size_t size;
    const Field *fields;
    int n;
    const char *identity; /* in lists: the key that names an element */
    const char *scalar;   /* in a mapping by name: the key a bare value sets; NULL: none */
    const char *variant;  /* the ENUM key (a row before all rows with `only`) that selects among them; NULL: none */
    const char *alone;    /* a text key that, when given, must be the only one; NULL: none */
} Section;

extern const Section recipe_section;  /* the whole recipe: struct Recipe */
extern const Section stage_section;   /* struct RecipeStage */
extern const Section reward_section;  /* struct RewardSpec */
extern const Section balance_section; /* struct RecipeBalance */

/* A row of `key` whatever the variant: type, section and path are the same in all of its rows. NULL when there is none. */
const Field *section_any_field(const Section *b, const char *key);
/* Row of `key` for a variant (an index of the variant's enum); NULL when there is none. */
const Field *section_field(const Section *b, const char *key, int variant);

/* The value of a struct's variant key, which decides what rows count; -1: the section has none. */
int section_variant(const Section *b, const void *in);

#endif
