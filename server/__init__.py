"""The gRPC server, over `asr` and `context_store`.

app, hosting, settings       composition, start and drain; a store and models in this process; the configuration
methods                      the table of all methods, for the guard
interceptor                  what every call has in common: access, quota, bounds, status, one log line
access, tls, quota, memory   who may call; how many calls, streams and recordings at once
codec/                       messages of the interface to values and back; what clients may send is checked here
recognizer_service           one coroutine a stream: messages in, results in their context out
context_service              events in, states, embeddings and rescored lists out
doors/                       other protocols' clients: NVIDIA Riva, Google Cloud Speech
scheduler, fair_threads      all worker threads: which work is next, and how late audio is
contexts/                    contexts of dialogues: recorded, made, kept, pushed to the streams that use them
errors, logs, metrics, tracing
commands/, demo/             serve, demo, stream_client, make_key
"""
