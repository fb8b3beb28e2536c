/* The commands of the command line, a C file each (cmd_NAME.c here). argv[0] is the command's name; the result is the exit
 * code: 0 done, 1 failed, 2 usage, 130 interrupted. */
#ifndef RECIPES_COMMANDS_H
#define RECIPES_COMMANDS_H

int cmd_run(int argc, char **argv);
int cmd_ablate(int argc, char **argv);
int cmd_eval(int argc, char **argv);
int cmd_generate(int argc, char **argv);
int cmd_chat(int argc, char **argv);
int cmd_score(int argc, char **argv);
int cmd_inspect(int argc, char **argv);
int cmd_reward(int argc, char **argv);
int cmd_doctor(int argc, char **argv);
int cmd_paper(int argc, char **argv);
int cmd_report(int argc, char **argv);
int cmd_data(int argc, char **argv);
int cmd_tokenize(int argc, char **argv);
int cmd_template(int argc, char **argv);
int cmd_import(int argc, char **argv);
int cmd_export(int argc, char **argv);
int cmd_bench(int argc, char **argv);
int cmd_plan(int argc, char **argv);

#endif
