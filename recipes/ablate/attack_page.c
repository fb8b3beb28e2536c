/* What attacks were paid, in JSON, on a page and on a terminal. */
#include <stdlib.h>

#include "core/base/check.h"
#include "recipes/ablate/attack.h"
#include "recipes/ablate/page.h"
#include "recipes/report/html.h"

Json *attack_json(const AttackReport *r)
{
    Json *o = json_new_object(), *families = json_new_array();
    for (int f = 0; f < r->n_families; f++) {
        const AttackResult *result = &r->families[f];
        Json *family = json_new_object(), *attacks = json_new_array();
        json_set(family, "family", json_new_text(result->family));
        json_set(family, "honest_right", json_new_number(result->right));
        json_set(family, "honest_wrong", json_new_number(result->wrong));
        for (int i = 0; i < r->n; i++) {
            Json *a = json_new_object();
            json_set(a, "attack", json_new_text(r->attacks[i].name));
            json_set(a, "paid", json_new_number(result->paid[i]));
            json_set(a, "has_the_right_answer", json_new_bool(r->attacks[i].solves));
            json_set(a, "above_honest_wrong", json_new_bool(attack_pays(r, f, i)));
            json_append(attacks, a);
        }
        json_set(family, "attacks", attacks);
        json_append(families, family);
    }
    json_set(o, "families", families);
    json_set(o, "program_calls", json_new_int(r->calls));
    json_set(o, "program_failures", json_new_int(r->failures));
    return o;
}

void attack_print(const AttackReport *r, FILE *out)
{
    int bad = 0;
    for (int f = 0; f < r->n_families; f++) {
        const AttackResult *result = &r->families[f];
        fprintf(out, "%s%s: honest right %.3f, honest wrong %.3f\n", f ? "\n" : "", result->family, result->right,
                result->wrong);
        if (result->right <= result->wrong + 1e-6) fprintf(out, "  a right answer is paid no more than a wrong one\n");
        for (int i = 0; i < r->n; i++) {
            if (!attack_pays(r, f, i)) continue;
            fprintf(out, "  %8.3f  %s%s\n", result->paid[i], r->attacks[i].name,
                    r->attacks[i].solves ? " (has the right answer)" : "");
            bad += !r->attacks[i].solves;
        }
    }
    if (r->failures) fprintf(out, "\n%ld of %ld calls of the program failed\n", r->failures, r->calls);
    fprintf(out, "\n%d of %d attacks without the right answer are paid more than an honest wrong answer\n", bad,
            r->n * r->n_families);
}

static void cell(FILE *out, const AttackReport *r, int f, int i)
{
    bool pays = attack_pays(r, f, i);
    fputs(pays ? r->attacks[i].solves ? "<td><b>" : "<td><b class='wrong'>" : "<td>", out);
    html_number(out, r->families[f].paid[i], 2);
    fputs(pays ? "</b></td>" : "</td>", out);
}

char *attack_page(const AttackReport *r, const char *title)
{
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    CHECK(out);
    ablate_page_head(out, title);
    fputs("<p class='lead'>Mean reward of degenerate answers to held-out problems of every family. Bold: paid more "
          "than an "
          "honest wrong answer; red: without having the right answer, so that it can be won without solving "
          "anything.</p>\n<div class='card scroll'><table><thead><tr><th>answer</th>",
          out);
    for (int f = 0; f < r->n_families; f++) fprintf(out, "<th>%s</th>", r->families[f].family);
    fputs("</tr></thead><tbody>\n<tr class='all'><td>honest, right</td>", out);
    for (int f = 0; f < r->n_families; f++)
        fputs("<td>", out), html_number(out, r->families[f].right, 2), fputs("</td>", out);
    fputs("</tr>\n<tr class='all'><td>honest, wrong</td>", out);
    for (int f = 0; f < r->n_families; f++)
        fputs("<td>", out), html_number(out, r->families[f].wrong, 2), fputs("</td>", out);
    fputs("</tr>\n", out);
    for (int i = 0; i < r->n; i++) {
        fputs("<tr><td>", out);
        html_text(out, r->attacks[i].name);
        if (r->attacks[i].solves) fputs(" <small>has the right answer</small>", out);
        fputs("</td>", out);
        for (int f = 0; f < r->n_families; f++) cell(out, r, f, i);
        fputs("</tr>\n", out);
    }
    fputs("</tbody></table></div>\n", out);
    if (r->failures)
        fprintf(out, "<p class='lead'>%ld of %ld calls of the program failed.</p>\n", r->failures, r->calls);
    ablate_page_foot(out, "r1 reward --attack");
    CHECK(!fclose(out));
    return text;
}
