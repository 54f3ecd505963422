package main

import (
	"crypto/sha256"
	"encoding/base64"
	"strings"

	"github.com/golang-jwt/jwt/v5"
)

type claims struct {
	jwt.RegisteredClaims
	Body string `json:"body"`
}

// Verifier judges QStash's signature: a JWT that has the hash of the body among its claims.
type Verifier struct {
	key    []byte
	parser *jwt.Parser
}

// NewVerifier returns a verifier for this signing key.
func NewVerifier(key string) *Verifier {
	parser := jwt.NewParser(
		jwt.WithValidMethods([]string{"HS256"}),
		jwt.WithIssuer("Upstash"),
		jwt.WithExpirationRequired(),
	)
	return &Verifier{key: []byte(key), parser: parser}
}

// IsGenuine tells whether the token is valid now, and stands for this body.
func (v *Verifier) IsGenuine(token string, body []byte) bool {
	var said claims
	_, err := v.parser.ParseWithClaims(token, &said, func(*jwt.Token) (any, error) {
		return v.key, nil
	})
	if err != nil {
		return false
	}
	hash := sha256.Sum256(body)
	return strings.TrimRight(said.Body, "=") == base64.RawURLEncoding.EncodeToString(hash[:])
}
