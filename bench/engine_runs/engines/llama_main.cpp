// llama.cpp's main host: decode token after token over RPC servers, and print when each token began and ended.
//
//   llama_main MODEL.gguf SERVERS NGL TENSOR_SPLIT PROMPT_TOKENS STEPS IDLE_MS
//
// SERVERS is host:port,… or "-", TENSOR_SPLIT is n,n,… or "-". What llama-server does for a token, without its HTTP.
// Lines on standard output: "placed LAYER DEVICE" as the library reports, "ready", then for each line that is read
// "token BEGAN_NS ENDED_NS" a token, the prompt first, and "end". The clock is the machine's monotonic one.
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "ggml-backend.h"
#include "ggml-rpc.h"
#include "llama.h"

static long long now_ns() {
    return std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now().time_since_epoch())
        .count();
}

static void on_log(ggml_log_level, const char * text, void *) {
    int layer;
    char device[64];
    if (const char * at = strstr(text, "layer "); at && sscanf(at, "layer %d assigned to device %63[^,]", &layer, device) == 2) {
        printf("placed %d %s\n", layer, device);
    } else {
        fputs(text, stderr);
    }
}

static std::vector<std::string> parts(const char * text) {
    std::vector<std::string> found;
    std::stringstream stream(strcmp(text, "-") ? text : "");
    for (std::string part; std::getline(stream, part, ',');) found.push_back(part);
    return found;
}

static llama_token decode(llama_context * context, std::vector<llama_token> tokens, int vocab, bool report) {
    const long long began = now_ns();
    if (llama_decode(context, llama_batch_get_one(tokens.data(), (int) tokens.size())) != 0) exit(1);
    const float * logits = llama_get_logits_ith(context, -1);  // waits until they are here
    int best = 0;
    for (int k = 1; k < vocab; k++) if (logits[k] > logits[best]) best = k;
    if (report) printf("token %lld %lld\n", began, now_ns());
    return best;
}

int main(int count, char ** words) {
    if (count != 8) return 2;
    setvbuf(stdout, nullptr, _IOLBF, 0);  // who reads waits for whole lines
    llama_log_set(on_log, nullptr);
    llama_backend_init();
    std::vector<ggml_backend_dev_t> devices;
    for (const auto & server : parts(words[2])) {
        ggml_backend_reg_t reg = ggml_backend_rpc_add_server(server.c_str());
        if (!reg) return 1;
        ggml_backend_register(reg);
        for (size_t k = 0; k < ggml_backend_reg_dev_count(reg); k++) devices.push_back(ggml_backend_reg_dev_get(reg, k));
    }
    devices.push_back(nullptr);
    std::vector<float> split(llama_max_devices(), 0.0f);
    const auto shares = parts(words[4]);
    for (size_t k = 0; k < shares.size(); k++) split[k] = std::stof(shares[k]);

    llama_model_params model_params = llama_model_default_params();
    model_params.n_gpu_layers = atoi(words[3]);
    if (devices.size() > 1) model_params.devices = devices.data();
    if (!shares.empty()) model_params.tensor_split = split.data();
    llama_model * model = llama_model_load_from_file(words[1], model_params);
    if (!model) return 1;
    llama_context_params context_params = llama_context_default_params();
    context_params.n_ctx = 512;
    context_params.n_threads = context_params.n_threads_batch = 1;
    llama_context * context = llama_init_from_model(model, context_params);
    if (!context) return 1;
    const int vocab = llama_vocab_n_tokens(llama_model_get_vocab(model));

    std::vector<llama_token> prompt(atoi(words[5]));
    for (size_t k = 0; k < prompt.size(); k++) prompt[k] = (7 * (int) k + 1) % vocab;
    decode(context, prompt, vocab, false);  // the first call allocates
    decode(context, {prompt[0]}, vocab, false);
    puts("ready");
    char line[16];
    while (fgets(line, sizeof line, stdin)) {
        llama_memory_clear(llama_get_memory(context), true);
        std::this_thread::sleep_for(std::chrono::milliseconds(atoi(words[7])));
        llama_token token = decode(context, prompt, vocab, true);
        for (int step = 0; step < atoi(words[6]); step++) token = decode(context, {token}, vocab, true);
        puts("end");
    }
    llama_free(context);
    llama_model_free(model);
    return 0;
}
