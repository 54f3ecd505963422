// The Go peer: net/http verifies the same tokens, and appends each delivery with an XADD before it
// answers. GOMAXPROCS is 1, because the other servers have one core as well.
package main

import (
	"crypto/sha256"
	"encoding/base64"
	"io"
	"log"
	"net/http"
	"os"
	"strings"

	"github.com/golang-jwt/jwt/v5"
	"github.com/redis/go-redis/v9"
)

type claims struct {
	jwt.RegisteredClaims
	Body string `json:"body"`
}

func main() {
	options, err := redis.ParseURL(os.Getenv("REDIS_URL"))
	if err != nil {
		log.Fatal(err)
	}
	options.PoolSize = 64
	client := redis.NewClient(options)
	key := []byte(os.Getenv("QSTASH_CURRENT_SIGNING_KEY"))
	parser := jwt.NewParser(jwt.WithValidMethods([]string{"HS256"}), jwt.WithIssuer("Upstash"))

	http.HandleFunc("/qstash", func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 10<<20))
		if err != nil {
			http.Error(w, "unreadable", http.StatusBadRequest)
			return
		}
		var said claims
		_, err = parser.ParseWithClaims(r.Header.Get("Upstash-Signature"), &said,
			func(*jwt.Token) (any, error) { return key, nil })
		hash := sha256.Sum256(body)
		want := base64.RawURLEncoding.EncodeToString(hash[:])
		if err != nil || strings.TrimRight(said.Body, "=") != want {
			http.Error(w, "not verified", http.StatusUnauthorized)
			return
		}
		err = client.XAdd(r.Context(), &redis.XAddArgs{
			Stream: "deliveries",
			Values: []any{"id", r.Header.Get("Upstash-Message-Id"), "body", body},
		}).Err()
		if err != nil {
			w.Header().Set("Retry-After", "5")
			http.Error(w, "not stored", http.StatusServiceUnavailable)
			return
		}
		w.WriteHeader(http.StatusOK)
	})
	log.Fatal(http.ListenAndServe("127.0.0.1:"+os.Getenv("PORT"), nil))
}
