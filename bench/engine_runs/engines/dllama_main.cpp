// distributed-llama's root and worker: the root decodes token after token, and prints when each began and ended.
//
//   dllama_main PROMPT_TOKENS STEPS IDLE_MS inference|worker OPTIONS…
//
// OPTIONS are dllama's own. What dllama's `inference` does for a token, without its tokenizer. Lines on standard output
// beside the engine's: "ready", then for each line that is read "token BEGAN_NS ENDED_NS" a token, the prompt first, and
// "end". The clock is the machine's monotonic one.
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <thread>

#include "app.hpp"
#include "nn/nn-network.hpp"

static int prompt_tokens, steps, idle_ms;

static long long now_ns() {
    return std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now().time_since_epoch())
        .count();
}

// Compute `count` tokens from `position` on; return the likeliest next one.
static int decode(AppInferenceContext * context, const int * tokens, int count, int position, bool report) {
    const long long began = now_ns();
    context->inference->setBatchSize(count);
    context->inference->setPosition(position);
    for (int k = 0; k < count; k++) context->inference->setToken(k, tokens[k]);
    context->inference->forward();
    const float * logits = context->inference->logitsPipe;
    int best = 0;
    for (int k = 1; k < (int) context->header->vocabSize; k++) if (logits[k] > logits[best]) best = k;
    if (report) printf("token %lld %lld\n", began, now_ns());
    return best;
}

static void measure(AppInferenceContext * context) {
    int prompt[32];  // as many as the engine takes at once
    for (int k = 0; k < prompt_tokens; k++) prompt[k] = (7 * k + 1) % (int) context->header->vocabSize;
    decode(context, prompt, prompt_tokens, 0, false);
    puts("ready");
    char line[16];
    while (fgets(line, sizeof line, stdin)) {
        std::this_thread::sleep_for(std::chrono::milliseconds(idle_ms));
        int token = decode(context, prompt, prompt_tokens, 0, true);
        for (int step = 0; step < steps; step++) token = decode(context, &token, 1, prompt_tokens + step, true);
        puts("end");
    }
}

int main(int count, char ** words) {
    if (count < 5) return 2;
    prompt_tokens = atoi(words[1]), steps = atoi(words[2]), idle_ms = atoi(words[3]);
    if (prompt_tokens > 32) return 2;
    setvbuf(stdout, nullptr, _IOLBF, 0);  // who reads waits for whole lines
    initQuants();
    initSockets();
    AppCliArgs args = AppCliArgs::parse(count - 3, words + 3, true);
    args.benchmark = false;
    if (!strcmp(args.mode, "worker")) runWorkerApp(&args);
    else runInferenceApp(&args, measure);
    cleanupSockets();
    return 0;
}
