// The Go receiver: net/http verifies the same tokens, appends each delivery and then answers.
//
//	goreceiver each      an XADD for each request
//	goreceiver group     group commit: requests that arrive during an append go with the next one
//
// With -log it writes a line of JSON for each delivery, as our receiver does.
package main

import (
	"flag"
	"io"
	"log"
	"net/http"
	"os"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	bodyLimit   = 10 << 20
	connections = 64
)

func main() {
	logs := flag.Bool("log", false, "write a line of JSON for each delivery")
	flag.Parse()
	options, err := redis.ParseURL(os.Getenv("REDIS_URL"))
	if err != nil {
		log.Fatal(err)
	}
	options.PoolSize = connections
	client := redis.NewClient(options)

	var store Store = &Each{client: client, log: newLog(os.Stdout, *logs)}
	if flag.Arg(0) == "group" {
		store = NewGroup(client, *logs)
	}
	verifier := NewVerifier(os.Getenv("QSTASH_CURRENT_SIGNING_KEY"))
	mux := http.NewServeMux()
	mux.HandleFunc("POST /qstash", func(w http.ResponseWriter, r *http.Request) {
		receive(w, r, verifier, store)
	})
	server := http.Server{
		Addr:              "127.0.0.1:" + os.Getenv("PORT"),
		Handler:           mux,
		ReadHeaderTimeout: 10 * time.Second,
	}
	log.Fatal(server.ListenAndServe())
}

func receive(w http.ResponseWriter, r *http.Request, verifier *Verifier, store Store) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, bodyLimit))
	if err != nil {
		http.Error(w, "unreadable", http.StatusBadRequest)
		return
	}
	if !verifier.IsGenuine(r.Header.Get("Upstash-Signature"), body) {
		http.Error(w, "not verified", http.StatusUnauthorized)
		return
	}
	err = store.Put(r.Context(), Delivery{id: r.Header.Get("Upstash-Message-Id"), body: body})
	if err != nil {
		w.Header().Set("Retry-After", "5")
		http.Error(w, "not stored", http.StatusServiceUnavailable)
		return
	}
	w.WriteHeader(http.StatusOK)
}
