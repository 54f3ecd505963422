package main

import (
	"bufio"
	"context"
	"io"
	"log/slog"
	"os"

	"github.com/redis/go-redis/v9"
)

const (
	stream  = "deliveries"
	waiting = 4096
)

// Delivery is what is stored.
type Delivery struct {
	id   string
	body []byte
}

// Store appends a delivery to the stream. It returns when Redis has it.
type Store interface {
	Put(ctx context.Context, delivery Delivery) error
}

func entry(delivery Delivery) *redis.XAddArgs {
	return &redis.XAddArgs{Stream: stream, Values: []any{"id", delivery.id, "body", delivery.body}}
}

// Each appends every delivery with an XADD of its own.
type Each struct {
	client *redis.Client
	log    *slog.Logger
}

// Put appends the delivery.
func (e *Each) Put(ctx context.Context, delivery Delivery) error {
	err := e.client.XAdd(ctx, entry(delivery)).Err()
	if err == nil {
		accepted(e.log, delivery)
	}
	return err
}

type queued struct {
	delivery Delivery
	stored   chan error
}

// Group appends together what arrives while the append before is under way. The lines of an append
// are written together as well, by its own goroutine.
type Group struct {
	client *redis.Client
	queue  chan queued
	output *bufio.Writer
	log    *slog.Logger
}

// NewGroup returns a group that has begun to append.
func NewGroup(client *redis.Client, logs bool) *Group {
	output := bufio.NewWriter(os.Stdout)
	group := &Group{
		client: client,
		queue:  make(chan queued, waiting),
		output: output,
		log:    newLog(output, logs),
	}
	go group.run()
	return group
}

// Put appends the delivery. A sender that goes away does not stop the append of the others.
func (g *Group) Put(_ context.Context, delivery Delivery) error {
	one := queued{delivery: delivery, stored: make(chan error, 1)}
	g.queue <- one
	return <-one.stored
}

func (g *Group) run() {
	var batch []queued
	for first := range g.queue {
		batch = append(batch[:0], first)
		for range len(g.queue) {
			batch = append(batch, <-g.queue)
		}
		g.append(batch)
	}
}

func (g *Group) append(batch []queued) {
	ctx := context.Background()
	replies, _ := g.client.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		for _, one := range batch {
			pipe.XAdd(ctx, entry(one.delivery))
		}
		return nil
	})
	for number, one := range batch {
		err := replies[number].Err()
		one.stored <- err
		if err == nil {
			accepted(g.log, one.delivery)
		}
	}
	_ = g.output.Flush() // a line that cannot be written stops nothing
}

func newLog(output io.Writer, wanted bool) *slog.Logger {
	if !wanted {
		return slog.New(slog.DiscardHandler)
	}
	return slog.New(slog.NewJSONHandler(output, nil))
}

func accepted(log *slog.Logger, delivery Delivery) {
	log.LogAttrs(context.Background(), slog.LevelInfo, "accepted",
		slog.String("source", "qstash"),
		slog.String("id", delivery.id),
		slog.Int("bytes", len(delivery.body)),
	)
}
