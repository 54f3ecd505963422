package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"peers/counting"
)

var errNoBody = errors.New("the entry has no body")

// runner runs the handlers of one batch after another, in a pool of goroutines: a new goroutine for
// each message would cost more than all else, as its stack grows. The lines of a batch are written
// together.
type runner struct {
	jobs    chan job
	counter counting.Counter
	output  *bufio.Writer
	log     *slog.Logger
}

type job struct {
	message redis.XMessage
	failure *error
	all     *sync.WaitGroup
}

func newRunner(logs bool) *runner {
	output := bufio.NewWriter(os.Stdout)
	var handler slog.Handler = slog.DiscardHandler
	if logs {
		handler = slog.NewJSONHandler(output, nil)
	}
	r := &runner{jobs: make(chan job, count), output: output, log: slog.New(handler)}
	for range counting.Concurrency() {
		go r.serve()
	}
	return r
}

func (r *runner) serve() {
	for one := range r.jobs {
		*one.failure = r.attempt(one.message)
		one.all.Done()
	}
}

// run returns the IDs of the entries that were handled.
func (r *runner) run(batch []redis.XMessage) []string {
	failures := make([]error, len(batch))
	var all sync.WaitGroup
	all.Add(len(batch))
	for number, message := range batch {
		r.jobs <- job{message: message, failure: &failures[number], all: &all}
	}
	all.Wait()
	_ = r.output.Flush() // a line that cannot be written stops nothing
	handled := make([]string, 0, len(batch))
	for number, message := range batch {
		if failures[number] == nil {
			handled = append(handled, message.ID)
		}
	}
	return handled
}

func (r *runner) attempt(message redis.XMessage) error {
	began, ctx := time.Now(), context.Background()
	var event counting.Order
	err := decode(message, &event)
	if err == nil {
		err = r.handle(ctx, event)
	}
	if err != nil {
		r.log.LogAttrs(ctx, slog.LevelError, "failed",
			slog.String("id", message.ID), slog.String("error", err.Error()))
		return err
	}
	r.log.LogAttrs(ctx, slog.LevelInfo, "handled",
		slog.String("id", message.ID),
		slog.String("type", event.Type),
		slog.String("handler", "handle"),
		slog.Float64("ms", float64(time.Since(began).Microseconds())/1000),
	)
	return nil
}

func decode(message redis.XMessage, event *counting.Order) error {
	body, ok := message.Values["body"].(string)
	if !ok {
		return errNoBody
	}
	return json.Unmarshal([]byte(body), event)
}

// handle is the handler that is measured: it does nothing but be counted.
func (r *runner) handle(_ context.Context, event counting.Order) error {
	r.counter.CountOf(event)
	return nil
}
