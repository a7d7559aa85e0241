#include "fault-rules.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define RULES_MAX 16
#define FILE_BYTES_MAX 4096
#define FUNCTION_BYTES_MAX 32
/* A share is drawn among so many. */
#define SHARES 1000000UL

struct rule {
  char function[FUNCTION_BYTES_MAX + 1];
  enum action action;
  int is_delay;
  unsigned long delay_micros;
  unsigned long argument;
  long times; /* below 0: without end */
  long used;
  long every;
  long seen;
  unsigned long share;
  int has_id;
  int has_label;
  struct object object;
  long pid;
};

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static char rules_path[4200];
static struct stat last_stat;
static struct rule rules[RULES_MAX];
static int rule_count;
static int about_objects;
static int handles_swapped;
static enum iv_mode iv_mode;
static unsigned long iv_period;
static int without_iv_bits;
static CK_RV bad_tag;
static int removed;
static unsigned long removals;
static unsigned long long random_state;

void rules_open(const char* path) {
  snprintf(rules_path, sizeof rules_path, "%s", path);
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  random_state = (unsigned long long)now.tv_nsec * 2 + 1 + (unsigned long long)getpid() * 7919;
}

/* xorshift64*; drawing only, nothing secret. */
static unsigned long draw(unsigned long below) {
  random_state ^= random_state >> 12;
  random_state ^= random_state << 25;
  random_state ^= random_state >> 27;
  return (unsigned long)((random_state * 2685821657736338717ULL) >> 33) % below;
}

static void read_id(const char* hex, struct object* object) {
  unsigned byte;
  object->id_bytes = 0;
  for (; object->id_bytes < OBJECT_ID_BYTES_MAX && sscanf(hex, "%2x", &byte) == 1; hex += 2) {
    object->id[object->id_bytes++] = (CK_BYTE)byte;
    if (hex[1] == 0) break;
  }
}

static enum action action_named(const char* name) {
  static const char* const names[] = {"-", "fail", "flip", "hang", "signal", "close-sessions", "logout"};
  for (int action = FAIL; action <= LOGOUT; ++action)
    if (strcmp(name, names[action]) == 0) return (enum action)action;
  return NOTHING;
}

static enum iv_mode iv_mode_named(const char* name) {
  static const char* const names[] = {"caller", "append", "in-place", "zero-in", "stays-zero", "replaces"};
  for (int mode = IV_APPENDED; mode <= IV_REPLACES; ++mode)
    if (strcmp(name, names[mode]) == 0) return (enum iv_mode)mode;
  return IV_OF_CALLER;
}

static void read_condition(const char* word, struct rule* rule, int* position) {
  const size_t bytes = strlen(word);
  if (strncmp(word, "id=", 3) == 0) {
    rule->has_id = 1;
    read_id(word + 3, &rule->object);
  } else if (strncmp(word, "label=", 6) == 0) {
    rule->has_label = 1;
    snprintf(rule->object.label, sizeof rule->object.label, "%s", word + 6);
  } else if (strncmp(word, "pid=", 4) == 0) {
    rule->pid = strtol(word + 4, NULL, 10);
  } else if (word[bytes - 1] == '%') {
    rule->share = (unsigned long)(strtod(word, NULL) * (SHARES / 100.0));
  } else if (++*position == 1) {
    rule->argument = strtoul(word, NULL, 0);
    if (rule->is_delay) rule->delay_micros = (unsigned long)(strtod(word, NULL) * 1000);
  } else {
    *(*position == 2 ? &rule->times : &rule->every) = strtol(word, NULL, 10);
  }
}

static void read_line(char* line) {
  char* rest = NULL;
  const char* function = strtok_r(line, " ", &rest);
  const char* what = strtok_r(NULL, " ", &rest);
  if (function == NULL || what == NULL || function[0] == '#') return;
  if (strcmp(function, "handles") == 0) {
    handles_swapped = strcmp(what, "swap") == 0;
  } else if (strcmp(function, "token") == 0) {
    removed = strcmp(what, "removed") == 0;
  } else if (strcmp(function, "iv") == 0) {
    iv_mode = iv_mode_named(what);
    const char* period = strtok_r(NULL, " ", &rest);
    iv_period = period == NULL ? 0 : strtoul(period, NULL, 10);
  } else if (strcmp(function, "bad-tag") == 0) {
    bad_tag = strtoul(what, NULL, 0);
  } else if (strcmp(function, "parameters") == 0) {
    without_iv_bits = strcmp(what, "without-iv-bits") == 0;
  } else if (rule_count < RULES_MAX) {
    struct rule* rule = &rules[rule_count++];
    *rule = (struct rule){.action = action_named(what), .times = -1, .every = 1, .share = SHARES};
    rule->is_delay = strcmp(what, "delay") == 0;
    snprintf(rule->function, sizeof rule->function, "%s", function);
    int position = 0;
    for (const char* word = strtok_r(NULL, " ", &rest); word != NULL; word = strtok_r(NULL, " ", &rest))
      read_condition(word, rule, &position);
    about_objects |= rule->has_id || rule->has_label;
  }
}

static void read_rules(void) {
  const int was_removed = removed;
  rule_count = 0;
  about_objects = 0;
  handles_swapped = 0;
  removed = 0;
  iv_mode = IV_OF_CALLER;
  iv_period = 0;
  without_iv_bits = 0;
  bad_tag = 0;
  char text[FILE_BYTES_MAX] = "";
  FILE* file = fopen(rules_path, "r");
  if (file != NULL) {
    text[fread(text, 1, sizeof text - 1, file)] = 0;
    fclose(file);
  }
  char* rest = NULL;
  for (char* line = strtok_r(text, "\n", &rest); line != NULL; line = strtok_r(NULL, "\n", &rest)) read_line(line);
  if (removed && !was_removed) ++removals;
}

static int is_same_file(const struct stat* left, const struct stat* right) {
  return left->st_ino == right->st_ino && left->st_size == right->st_size &&
         left->st_mtim.tv_sec == right->st_mtim.tv_sec && left->st_mtim.tv_nsec == right->st_mtim.tv_nsec &&
         left->st_ctim.tv_sec == right->st_ctim.tv_sec && left->st_ctim.tv_nsec == right->st_ctim.tv_nsec;
}

/* Under the mutex. */
static void refresh(void) {
  struct stat now = {0};
  if (stat(rules_path, &now) != 0) now = (struct stat){0};
  if (is_same_file(&now, &last_stat)) return;
  last_stat = now;
  read_rules();
}

int rules_know_objects(void) {
  pthread_mutex_lock(&mutex);
  refresh();
  const int known = about_objects;
  pthread_mutex_unlock(&mutex);
  return known;
}

static int fits(struct rule* rule, const char* function, const struct object* object) {
  if (strcmp(rule->function, "*") != 0 && strcmp(rule->function, function) != 0) return 0;
  if (rule->pid != 0 && rule->pid != (long)getpid()) return 0;
  if ((rule->has_id || rule->has_label) && object == NULL) return 0;
  if (rule->has_label && strcmp(rule->object.label, object->label) != 0) return 0;
  if (rule->has_id && (rule->object.id_bytes != object->id_bytes ||
                       memcmp(rule->object.id, object->id, object->id_bytes) != 0))
    return 0;
  if (rule->times >= 0 && rule->used >= rule->times) return 0;
  if (rule->every > 1 && ++rule->seen % rule->every != 0) return 0;
  return rule->share >= SHARES || draw(SHARES) < rule->share;
}

struct fault fault_in(const char* function, const struct object* object) {
  pthread_mutex_lock(&mutex);
  refresh();
  struct fault fault = {
      .handles_swapped = handles_swapped,
      .iv_mode = iv_mode,
      .iv_period = iv_period,
      .without_iv_bits = without_iv_bits,
      .bad_tag = bad_tag,
      .removal = removed ? removals : 0};
  for (int i = 0; i < rule_count && fault.action == NOTHING; ++i) {
    struct rule* rule = &rules[i];
    if (!fits(rule, function, object)) continue;
    ++rule->used;
    if (rule->is_delay) {
      fault.delay_micros += rule->delay_micros;
    } else {
      fault.action = rule->action;
      fault.argument = rule->argument;
    }
  }
  pthread_mutex_unlock(&mutex);
  return fault;
}
