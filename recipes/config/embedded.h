/* The built-in recipes: every recipes/NAME.yaml as it was when the binary was made (recipes_to_c.sh writes it). */
#ifndef RECIPES_EMBEDDED_H
#define RECIPES_EMBEDDED_H

typedef struct EmbeddedRecipe {
    const char *name; /* "tiny" for recipes/tiny.yaml */
    const char *text;
} EmbeddedRecipe;

extern const EmbeddedRecipe embedded_recipes[]; /* in the order of their names, one {NULL, NULL} after the last */
extern const int embedded_recipes_count;

/* The claims of recipes/paper/ (recipes/ablate/paper.h), in the order of their names, one {NULL, NULL} after the last. */
extern const EmbeddedRecipe embedded_claims[];

#endif
