/* The progress line: rewritten on a terminal, a plain line every few seconds elsewhere. */
#include "recipes/run/progress.h"

#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "core/base/check.h"
#include "core/base/clock.h"
#include "recipes/model/machine.h"

enum { LINE = 512, BAR = 20 };
static const double redraw_seconds = 0.1, plain_seconds = 5;

struct Progress {
    FILE *out;
    bool terminal, quiet, drawn; /* drawn: a progress line stands on the terminal */
    char stage[64];
    int64_t first, total; /* step the stage (or this process) began at */
    ProgressStep last;
    double started, shown;
    bool in_stage;
};

Progress *progress_new(FILE *out, bool quiet)
{
    Progress *p = calloc(1, sizeof *p);
    CHECK(p);
    p->out = out;
    p->quiet = quiet;
    const char *term = getenv("TERM");
    p->terminal = isatty(fileno(out)) && !(term && !strcmp(term, "dumb"));
    return p;
}

void progress_free(Progress *p)
{
    if (p && p->drawn) fputc('\n', p->out);
    free(p);
}

const char *progress_time(double seconds, char *out)
{
    if (!(seconds >= 0) || seconds > 1e8) return strcpy(out, "?");
    long s = (long)(seconds + 0.5);
    if (s < 3600) snprintf(out, 24, "%ld:%02ld", s / 60, s % 60);
    else snprintf(out, 24, "%ld:%02ld:%02ld", s / 3600, s / 60 % 60, s % 60);
    return out;
}

static int columns(const Progress *p)
{
    struct winsize w;
    if (ioctl(fileno(p->out), TIOCGWINSZ, &w) || w.ws_col < 20) return 80;
    return w.ws_col < LINE ? w.ws_col : LINE - 1;
}

/* ---- The line ---- */

typedef struct Line {
    char text[LINE];
    size_t n;
} Line;

static void add(Line *l, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void add(Line *l, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int n = vsnprintf(l->text + l->n, sizeof l->text - l->n, format, args);
    va_end(args);
    if (n > 0) l->n = l->n + (size_t)n < sizeof l->text ? l->n + (size_t)n : sizeof l->text - 1;
}

static void add_rate(Line *l, double rate)
{
    if (isnan(rate)) return;
    if (rate >= 9950) add(l, "  %.0fk tok/s", rate / 1000);
    else if (rate >= 995) add(l, "  %.1fk tok/s", rate / 1000);
    else add(l, "  %.0f tok/s", rate);
}

static double time_left(const Progress *p)
{
    int64_t done = p->last.step - p->first;
    if (p->total <= 0 || done <= 0) return NAN;
    return (clock_seconds() - p->started) / (double)done * (double)(p->total - p->last.step);
}

static void add_bar(Line *l, const Progress *p)
{
    int filled = p->total > 0 ? (int)((double)BAR * (double)p->last.step / (double)p->total + 0.5) : 0;
    if (filled > BAR) filled = BAR;
    add(l, " [%.*s%*s]", filled, "####################", BAR - filled, "");
}

static void compose(Line *l, const Progress *p, bool bar)
{
    char left[24];
    const ProgressStep *s = &p->last;
    l->n = 0;
    add(l, "%-13s", p->stage);
    if (bar) add_bar(l, p);
    if (p->total > 0) add(l, " %lld/%lld", (long long)s->step, (long long)p->total);
    else add(l, " %lld", (long long)s->step);
    if (!isnan(s->loss)) add(l, "  loss %.4g", s->loss);
    if (!isnan(s->reward)) add(l, "  reward %.3f", s->reward);
    if (!isnan(s->pass1)) add(l, "  pass@1 %.1f%%", 100 * s->pass1);
    add_rate(l, s->tokens_per_s);
    double seconds = time_left(p);
    if (!isnan(seconds)) add(l, "  %s left", progress_time(seconds, left));
}

static void erase(Progress *p)
{
    if (p->drawn) fputs("\r\033[K", p->out);
    p->drawn = false;
}

/* On a terminal the bar goes first when the line is too narrow, then the line is cut. */
static void draw(Progress *p)
{
    Line l;
    int width = columns(p) - 1;
    compose(&l, p, true);
    if ((int)l.n > width) compose(&l, p, false);
    fprintf(p->out, "\r\033[K%.*s", width, l.text);
    fflush(p->out);
    p->drawn = true;
}

static void print_plain(Progress *p)
{
    Line l;
    compose(&l, p, false);
    fprintf(p->out, "%s\n", l.text);
    fflush(p->out);
}

void progress_stage(Progress *p, const char *stage, int64_t step, int64_t total)
{
    snprintf(p->stage, sizeof p->stage, "%s", stage);
    p->first = step;
    p->total = total;
    p->last = (ProgressStep){step, NAN, NAN, NAN, NAN};
    p->started = p->shown = clock_seconds();
    p->in_stage = true;
    if (!p->quiet && p->terminal) draw(p);
}

void progress_step(Progress *p, const ProgressStep *s)
{
    double now = clock_seconds();
    p->last = *s;
    if (p->quiet || now - p->shown < (p->terminal ? redraw_seconds : plain_seconds)) return;
    p->shown = now;
    if (p->terminal) draw(p);
    else print_plain(p);
}

void progress_stage_end(Progress *p)
{
    char took[24];
    if (!p->in_stage) return;
    p->in_stage = false;
    if (p->quiet) return;
    erase(p);
    p->first = p->last.step; /* no time left */
    Line l;
    compose(&l, p, false);
    fprintf(p->out, "%s  %s\n", l.text, progress_time(clock_seconds() - p->started, took));
    fflush(p->out);
}

void progress_note(Progress *p, const char *format, ...)
{
    bool redraw = p->drawn;
    erase(p);
    va_list args;
    va_start(args, format);
    vfprintf(p->out, format, args);
    va_end(args);
    fputc('\n', p->out);
    if (redraw && p->in_stage) draw(p);
    fflush(p->out);
}
