/* The part of Jinja that chat templates are written in, to check which built-in a model's own template is: rendered with
 * examples, not trusted by its words. for, if, set, namespace, expressions, slices, string methods, the filters trim, length,
 * tojson, default and a few more; blocks are trimmed as transformers does (trim_blocks, lstrip_blocks). Macros, imports and
 * functions of other programs are refused by name. */
#ifndef DATA_JINJA_H
#define DATA_JINJA_H

#include "core/base/status.h"
#include "data/json.h"

/* The text that a template gives; variables: an object. NULL: failed (a construct that is not known, or raise_exception).
 * Caller frees. */
char *jinja_render(const char *source, const Json *variables, Status *st);

#endif
