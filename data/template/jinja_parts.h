/* What the two halves of the Jinja interpreter share: statements (jinja.c) and expressions (jinja_expression.c). */
#ifndef DATA_JINJA_PARTS_H
#define DATA_JINJA_PARTS_H

#include "data/template/jinja.h"
#include "data/text.h"

enum { SCOPES = 32, STEPS = 200000, DEPTH = 64 };

typedef enum { PIECE_TEXT, PIECE_VALUE, PIECE_BLOCK } PieceKind;

typedef struct Piece {
    PieceKind kind;
    const char *p;
    size_t n;
} Piece;

typedef struct Jinja {
    Piece *pieces;
    int n;
    Json *scopes[SCOPES]; /* variables, innermost last; namespaces are objects in scope 0 */
    int depth;
    Text out;
    int steps, nesting;
    int idle; /* > 0: the value is not wanted, only where its text ends */
    Status *st;
} Jinja;

/* A place in an expression. Values are owned; NULL is undefined. */
typedef struct Reader {
    Jinja *j;
    const char *p, *end;
} Reader;

/* Fails with what is not understood, and its beginning. */
bool jinja_refuse(Jinja *j, const char *what, const char *p, size_t n);
/* The same for the rest of an expression; NULL. */
Json *jinja_no_value(Reader *r, const char *what);

/* The value of the expression at r (NULL: undefined); caller frees. */
Json *jinja_expression(Reader *r);
bool jinja_is_blank(char c);
void jinja_skip(Reader *r);
/* Takes a mark, or a whole word. */
bool jinja_take(Reader *r, const char *mark);
bool jinja_take_name(Reader *r, char name[64]);
bool jinja_truth(const Json *v);
/* As {{ }} writes a value. */
void jinja_add_text(Text *out, const Json *v);
/* A variable, from the innermost scope out; NULL. */
const Json *jinja_look_up(const Jinja *j, const char *name);

#endif
