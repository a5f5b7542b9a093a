// A phone that does what the test says: it asks for commands at /command, and tells at /event what has happened. Its name
// is the query of the page.

let phone, call;

const tell = (what, more = {}) => fetch("/event" + location.search, {method: "POST", body: JSON.stringify({what, ...more})});

function listen(session) {
  call = session;
  for (const event of ["progress", "accepted", "confirmed", "ended", "failed"])
    session.on(event, ({originator, cause}) => tell(event, {originator, cause}));
}

const commands = {
  register({server, uri, password, authorization_user}) {
    phone = new JsSIP.UA({sockets: [new JsSIP.WebSocketInterface(server)], uri, password, authorization_user, register: true, register_expires: 600});
    for (const event of ["connected", "disconnected", "registered", "unregistered", "registrationFailed"])
      phone.on(event, ({cause, response}) => tell(event, {cause, require: response?.getHeader?.("Require")}));
    phone.on("newRTCSession", ({originator, session}) => {
      listen(session);
      if (originator === "remote") session.answer({mediaConstraints: {audio: true, video: false}});
    });
    phone.on("newMessage", ({originator, request}) => tell("message", {originator, text: request.body}));
    phone.start();
  },
  dial: ({uri}) => phone.call(uri, {mediaConstraints: {audio: true, video: false}}),
  write: ({uri, text}) => phone.sendMessage(uri, text),
  hangup: () => call.terminate(),
  reload: () => location.reload(),
};

async function obey() {
  for (;;) {
    const command = await (await fetch("/command" + location.search)).json();
    try {
      if (command.name) commands[command.name](command);
    } catch (error) {
      tell("error", {cause: String(error)});
    }
  }
}

tell("loaded").then(obey);
