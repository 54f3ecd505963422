// The Go worker, by hand: it reads 256 entries at a time, and the next ones while these run. The
// handlers of a batch run side by side, up to BENCH_CONCURRENCY of them; then one XACK acknowledges
// the whole batch.
//
// With -log it writes a line of JSON for each message, as our worker does. It has no retries, no
// leases, no order and no deduplication.
package main

import (
	"context"
	"errors"
	"flag"
	"log"
	"strings"

	"github.com/redis/go-redis/v9"

	"peers/counting"
)

const (
	stream = "deliveries"
	group  = "main"
)

var count = counting.Count(256)

func main() {
	logs := flag.Bool("log", false, "write a line of JSON for each message")
	flag.Parse()
	options, err := redis.ParseURL(counting.URL())
	if err != nil {
		log.Fatal(err)
	}
	client, ctx := redis.NewClient(options), context.Background()
	if flag.Arg(0) == "fill" {
		err = fill(ctx, client)
	} else {
		err = work(ctx, client, newRunner(*logs))
	}
	if err != nil {
		log.Fatal(err)
	}
}

func fill(ctx context.Context, client *redis.Client) error {
	return counting.Fill(func(bodies [][]byte) error {
		_, err := client.Pipelined(ctx, func(pipe redis.Pipeliner) error {
			for _, body := range bodies {
				pipe.XAdd(ctx, &redis.XAddArgs{Stream: stream, Values: []any{"body", body}})
			}
			return nil
		})
		return err
	})
}

func work(ctx context.Context, client *redis.Client, runner *runner) error {
	err := client.XGroupCreateMkStream(ctx, stream, group, "0").Err()
	if err != nil && !strings.HasPrefix(err.Error(), "BUSYGROUP") {
		return err
	}
	batches, done := make(chan []redis.XMessage), make(chan []string, 1)
	failed := make(chan error, 1)
	go func() { failed <- read(ctx, client, batches) }()
	go func() { failed <- acknowledge(ctx, client, done) }()
	for {
		select {
		case batch := <-batches:
			done <- runner.run(batch)
		case err := <-failed:
			return err
		}
	}
}

func read(ctx context.Context, client *redis.Client, batches chan<- []redis.XMessage) error {
	for {
		read, err := client.XReadGroup(ctx, &redis.XReadGroupArgs{
			Group: group, Consumer: "one", Streams: []string{stream, ">"}, Count: int64(count), Block: 0,
		}).Result()
		if err != nil && !errors.Is(err, redis.Nil) {
			return err
		}
		for _, one := range read {
			batches <- one.Messages
		}
	}
}

func acknowledge(ctx context.Context, client *redis.Client, done <-chan []string) error {
	for ids := range done {
		if len(ids) == 0 {
			continue
		}
		if err := client.XAck(ctx, stream, group, ids...).Err(); err != nil {
			return err
		}
	}
	return nil
}
