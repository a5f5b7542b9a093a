// The units of work of units.py, served with sipgo: OPTIONS, answered call, proxied call, REGISTER.
//
//	sipgo options|call|proxied|register PORT [TARGET_PORT]
package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"strconv"
	"sync"

	"github.com/emiago/sipgo"
	"github.com/emiago/sipgo/sip"
)

const host = "127.0.0.1"

const sdp = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n" +
	"m=audio 6002 RTP/AVP 8\r\na=rtpmap:8 PCMA/8000\r\n"

func main() {
	if len(os.Args) < 3 {
		fmt.Fprintln(os.Stderr, "usage: sipgo options|call|proxied|register PORT [TARGET_PORT]")
		os.Exit(2)
	}
	slog.SetDefault(slog.New(slog.DiscardHandler))
	sip.SetDefaultLogger(slog.New(slog.DiscardHandler))
	port, _ := strconv.Atoi(os.Args[2])
	ua, err := sipgo.NewUA()
	check(err)
	server, err := sipgo.NewServer(ua)
	check(err)
	client, err := sipgo.NewClient(ua, sipgo.WithClientConnectionAddr(fmt.Sprintf("%s:%d", host, port)))
	check(err)
	server.OnOptions(ok)
	switch os.Args[1] {
	case "options":
	case "call":
		answer(server, client, port)
	case "proxied":
		proxy(server, client, os.Args[3])
	case "register":
		register(server)
	default:
		fmt.Fprintln(os.Stderr, "sipgo: no such unit: "+os.Args[1])
		os.Exit(2)
	}
	check(server.ListenAndServe(context.Background(), "udp", fmt.Sprintf("%s:%d", host, port)))
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "sipgo:", err)
		os.Exit(1)
	}
}

func ok(request *sip.Request, tx sip.ServerTransaction) {
	_ = tx.Respond(sip.NewResponseFromRequest(request, 200, "OK", nil))
}

func answer(server *sipgo.Server, client *sipgo.Client, port int) {
	contact := sip.ContactHeader{Address: sip.Uri{User: "bob", Host: host, Port: port}}
	dialogs := sipgo.NewDialogServerCache(client, contact)
	server.OnInvite(func(request *sip.Request, tx sip.ServerTransaction) {
		dialog, err := dialogs.ReadInvite(request, tx)
		if err != nil {
			return
		}
		_ = dialog.Respond(180, "Ringing", nil)
		_ = dialog.RespondSDP([]byte(sdp))
		<-dialog.Context().Done()
	})
	server.OnAck(func(request *sip.Request, tx sip.ServerTransaction) {
		_ = dialogs.ReadAck(request, tx)
	})
	server.OnBye(func(request *sip.Request, tx sip.ServerTransaction) {
		_ = dialogs.ReadBye(request, tx)
	})
}

// The requests outside of a dialog go to one target; those within it follow the Route.
func proxy(server *sipgo.Server, client *sipgo.Client, targetPort string) {
	target := host + ":" + targetPort
	destination := func(request *sip.Request) string {
		if request.Route() == nil {
			return target
		}
		request.RemoveHeader("Route")
		return request.Recipient.HostPort()
	}
	relay := func(request *sip.Request, tx sip.ServerTransaction) {
		request.SetDestination(destination(request))
		options := []sipgo.ClientRequestOption{
			sipgo.ClientRequestAddVia, sipgo.ClientRequestDecreaseMaxForward,
		}
		if request.Method == sip.INVITE {
			options = append(options, sipgo.ClientRequestAddRecordRoute)
		}
		out, err := client.TransactionRequest(context.Background(), request, options...)
		if err != nil {
			_ = tx.Respond(sip.NewResponseFromRequest(request, 500, "Server Internal Error", nil))
			return
		}
		defer out.Terminate()
		for {
			select {
			case response, more := <-out.Responses():
				if !more {
					return
				}
				response.SetDestination(request.Source())
				response.RemoveHeader("Via")
				if tx.Respond(response) != nil || response.StatusCode >= 200 {
					return
				}
			case <-out.Done():
				return
			case <-tx.Done():
				return
			}
		}
	}
	server.OnInvite(relay)
	server.OnBye(relay)
	server.OnAck(func(request *sip.Request, tx sip.ServerTransaction) {
		request.SetDestination(destination(request))
		_ = client.WriteRequest(request, sipgo.ClientRequestAddVia, sipgo.ClientRequestDecreaseMaxForward)
	})
}

func register(server *sipgo.Server) {
	var mutex sync.RWMutex
	bindings := map[string]sip.Uri{}
	server.OnRegister(func(request *sip.Request, tx sip.ServerTransaction) {
		contact := request.Contact()
		if contact == nil {
			_ = tx.Respond(sip.NewResponseFromRequest(request, 400, "Bad Request", nil))
			return
		}
		mutex.Lock()
		bindings[request.To().Address.Addr()] = contact.Address
		mutex.Unlock()
		response := sip.NewResponseFromRequest(request, 200, "OK", nil)
		response.AppendHeader(contact)
		_ = tx.Respond(response)
	})
}
