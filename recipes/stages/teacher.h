/* A teacher whose whole distribution a student learns: the policy that a distill stage samples from. */
#ifndef RECIPES_TEACHER_H
#define RECIPES_TEACHER_H

#include "core/policy.h"
#include "recipes/run/run.h"

typedef struct Teacher {
    Policy *policy; /* NULL: none */
    bool forward;   /* KL(teacher || student), else KL(student || teacher) */
} Teacher;

/* Opens the stage's teacher; fails where it does not share the student's tokenizer and vocabulary. */
bool teacher_open(UnitRun *u, Teacher *out, Status *st);
void teacher_close(UnitRun *u, Teacher *t);

#endif
