// watermill-redisstream: a router whose handlers share a consumer group. A subscriber waits for the
// acknowledgement of its message before it gives out the next, so there are several of them.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill-redisstream/pkg/redisstream"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/redis/go-redis/v9"

	"peers/counting"
)

const (
	topic = "orders"
	group = "main"
)

func main() {
	options, err := redis.ParseURL(counting.URL())
	if err != nil {
		log.Fatal(err)
	}
	options.PoolSize = 2 * counting.Concurrency() // each subscriber blocks one while it acknowledges
	client := redis.NewClient(options)
	if counting.AskedToFill() {
		err = fill(client)
	} else {
		err = work(client)
	}
	if err != nil {
		log.Fatal(err)
	}
}

func fill(client redis.UniversalClient) error {
	publisher, err := redisstream.NewPublisher(
		redisstream.PublisherConfig{Client: client}, watermill.NopLogger{},
	)
	if err != nil {
		return err
	}
	return counting.Fill(func(bodies [][]byte) error {
		for _, body := range bodies {
			if err := publisher.Publish(topic, message.NewMessage(watermill.NewUUID(), body)); err != nil {
				return err
			}
		}
		return nil
	})
}

func work(client redis.UniversalClient) error {
	router, err := message.NewRouter(message.RouterConfig{}, watermill.NopLogger{})
	if err != nil {
		return err
	}
	var counter counting.Counter
	handle := func(given *message.Message) error {
		var event counting.Order
		if err := json.Unmarshal(given.Payload, &event); err != nil {
			return err
		}
		counter.Count()
		return nil
	}
	for number := range counting.Concurrency() {
		name := fmt.Sprintf("consumer-%d", number)
		subscriber, err := redisstream.NewSubscriber(redisstream.SubscriberConfig{
			Client: client, ConsumerGroup: group, Consumer: name,
		}, watermill.NopLogger{})
		if err != nil {
			return err
		}
		router.AddConsumerHandler(name, topic, subscriber, handle)
	}
	return router.Run(context.Background())
}
