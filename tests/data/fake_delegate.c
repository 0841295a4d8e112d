/* A stand-in for the Edge TPU's library: claims every "edgetpu-custom-op" of a graph and computes something of its own.
 *
 * What it should do is said by files in the directory $FAKE_DELEGATE_DIR, looked at each time:
 *   refuse  opening a device fails         fail  a run fails, as with a device that was unplugged
 *   hang    a run waits until the file is gone, or 20 s have passed    slow    a run takes 5 ms
 * What it did is in the file `log` there: "open <device>" and "close" lines, and "overlap" for a run during another.
 *
 * Output byte i of every output tensor is (sum of all input bytes + i) modulo 256.
 *
 * The declarations below are the beginning of TFLite's C structures, which did not move from 2.14 to 2.21;
 * a name with `unused` stands for fields that are not needed here, so that the others lie where the runtime has them.
 * https://github.com/tensorflow/tensorflow/blob/master/tensorflow/lite/core/c/common.h
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define OP_NAME "edgetpu-custom-op"
#define HANG_STEPS 2000 /* of 10 ms */

enum { OK = 0, ERROR = 1 };
enum { ALLOW_DYNAMIC_TENSORS = 1 }; /* without it the runtime prepares the operator itself first, which it cannot */

typedef struct {
  int size;
  int data[];
} IntArray;

typedef struct {
  int type;
  unsigned char* data;
  IntArray* dims;
  float scale;
  int32_t zero_point;
  int allocation_type;
  size_t bytes;
  const void* unused_allocation;
  const char* name;
  void* unused_delegate;
  int unused_buffer_handle;
  _Bool unused_stale, is_variable;
  int quantization_type;
  void* quantization_params;
  void* unused_sparsity;
  const IntArray* unused_dims_signature;
} Tensor; /* its size matters: the context has an array of them */

typedef struct {
  IntArray *inputs, *outputs, *intermediates, *temporaries;
  void* user_data;
} Node;

struct Context;

typedef struct {
  void* (*init)(struct Context*, const char* buffer, size_t length);
  void (*free)(struct Context*, void* user_data);
  int (*prepare)(struct Context*, Node*);
  int (*invoke)(struct Context*, Node*);
  const char* (*unused_profiling)(const struct Context*, const Node*);
  int32_t builtin_code;
  const char* custom_name;
  int version;
  void* unused_tail[8]; /* passed by value: room for what later versions added */
} Registration;

typedef struct Delegate {
  void* data;
  int (*prepare)(struct Context*, struct Delegate*);
  void* unused_copy_from;
  void* unused_copy_to;
  void* unused_free_handle;
  int64_t flags;
  void* unused_builder;
} Delegate;

typedef struct Context {
  size_t tensors_size;
  int (*get_execution_plan)(struct Context*, IntArray** plan);
  Tensor* tensors;
  void* unused_impl;
  void* unused_resize;
  void (*report_error)(struct Context*, const char* format, ...);
  void* unused_add_tensors;
  int (*get_node)(struct Context*, int index, Node**, Registration**);
  int (*replace_nodes)(struct Context*, Registration, const IntArray* nodes, Delegate*);
} Context;

static void path_of(char* path, size_t size, const char* name) {
  const char* directory = getenv("FAKE_DELEGATE_DIR");
  snprintf(path, size, "%s/%s", directory ? directory : "/nonexistent", name);
}

static int told_to(const char* name) {
  char path[4096];
  path_of(path, sizeof path, name);
  return access(path, F_OK) == 0;
}

static void record(const char* what, const char* device) {
  char path[4096];
  path_of(path, sizeof path, "log");
  FILE* file = fopen(path, "a");
  if (file == NULL) return;
  fprintf(file, "%s%s\n", what, device);
  fclose(file);
}

static int prepare_kernel(Context* context, Node* node) {
  (void)context, (void)node;
  return OK;
}

static int running;

static int run(Context* context, Node* node) {
  for (int step = 0; step < HANG_STEPS && told_to("hang"); step++) usleep(10000);
  if (told_to("fail")) {
    context->report_error(context, "fake device: transfer failed");
    return ERROR;
  }
  unsigned sum = 0;
  for (int i = 0; i < node->inputs->size; i++) {
    const Tensor* tensor = &context->tensors[node->inputs->data[i]];
    for (size_t at = 0; at < tensor->bytes; at++) sum += tensor->data[at];
  }
  for (int i = 0; i < node->outputs->size; i++) {
    Tensor* tensor = &context->tensors[node->outputs->data[i]];
    for (size_t at = 0; at < tensor->bytes; at++) tensor->data[at] = (unsigned char)(sum + at);
  }
  return OK;
}

static int invoke_kernel(Context* context, Node* node) {
  if (__atomic_add_fetch(&running, 1, __ATOMIC_SEQ_CST) > 1) record("overlap", "");
  if (told_to("slow")) usleep(5000);
  int status = run(context, node);
  __atomic_sub_fetch(&running, 1, __ATOMIC_SEQ_CST);
  return status;
}

static int claim_nodes(Context* context, Delegate* delegate) {
  IntArray* plan;
  if (context->get_execution_plan(context, &plan) != OK) return ERROR;
  IntArray* claimed = malloc(sizeof(IntArray) + (size_t)plan->size * sizeof(int));
  claimed->size = 0;
  for (int i = 0; i < plan->size; i++) {
    Node* node;
    Registration* registration;
    if (context->get_node(context, plan->data[i], &node, &registration) != OK) continue;
    if (registration->custom_name != NULL && strcmp(registration->custom_name, OP_NAME) == 0)
      claimed->data[claimed->size++] = plan->data[i];
  }
  Registration kernel = {.prepare = prepare_kernel, .invoke = invoke_kernel, .custom_name = OP_NAME, .version = 1};
  int status = context->replace_nodes(context, kernel, claimed, delegate);
  free(claimed);
  return status;
}

Delegate* tflite_plugin_create_delegate(const char* const* keys, const char* const* values, size_t count,
                                        void (*report_error)(const char*)) {
  const char* device = "any";
  for (size_t i = 0; i < count; i++)
    if (strcmp(keys[i], "device") == 0) device = values[i];
  if (told_to("refuse")) {
    report_error("fake device: somebody else has it");
    return NULL;
  }
  record("open ", device);
  Delegate* delegate = calloc(1, sizeof(Delegate));
  delegate->prepare = claim_nodes;
  delegate->flags = ALLOW_DYNAMIC_TENSORS;
  return delegate;
}

void tflite_plugin_destroy_delegate(Delegate* delegate) {
  record("close", "");
  free(delegate);
}
