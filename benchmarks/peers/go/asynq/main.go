// asynq: its server in this process, its logs at level warn.
package main

import (
	"context"
	"encoding/json"
	"log"

	"github.com/hibiken/asynq"

	"peers/counting"
)

const orderPaid = "order.paid"

func main() {
	connection, err := asynq.ParseRedisURI(counting.URL())
	if err != nil {
		log.Fatal(err)
	}
	if counting.AskedToFill() {
		err = fill(asynq.NewClient(connection))
	} else {
		err = work(connection)
	}
	if err != nil {
		log.Fatal(err)
	}
}

func fill(client *asynq.Client) error {
	return counting.Fill(func(bodies [][]byte) error {
		for _, body := range bodies {
			if _, err := client.Enqueue(asynq.NewTask(orderPaid, body)); err != nil {
				return err
			}
		}
		return nil
	})
}

func work(connection asynq.RedisConnOpt) error {
	var counter counting.Counter
	mux := asynq.NewServeMux()
	mux.HandleFunc(orderPaid, func(_ context.Context, task *asynq.Task) error {
		var event counting.Order
		if err := json.Unmarshal(task.Payload(), &event); err != nil {
			return err
		}
		counter.Count()
		return nil
	})
	return asynq.NewServer(connection, asynq.Config{
		Concurrency: counting.Concurrency(),
		LogLevel:    asynq.WarnLevel,
	}).Run(mux)
}
