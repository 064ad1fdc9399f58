// Requests with credentials, which the page asks for when the service does.

const KEPT = "varve.authorization"; // for this tab, until it is closed

document.body.insertAdjacentHTML("beforeend", `
  <dialog class="card login" id="login" aria-labelledby="login-title">
    <form method="dialog">
      <h2 id="login-title">Who are you?</h2>
      <p class="error" id="login-refused" role="alert" hidden>The service does not know these.</p>
      <label>User <input id="login-user" autocomplete="username" placeholder="none for a token"></label>
      <label>Token or password
        <input id="login-secret" type="password" autocomplete="current-password" required></label>
      <button class="run" type="submit">Log in</button>
    </form>
  </dialog>`);

const dialog = document.getElementById("login");
const form = dialog.querySelector("form");
const user = document.getElementById("login-user");
const secret = document.getElementById("login-secret");
const refused = document.getElementById("login-refused");

let asking = null;

// fetch() that asks for credentials and sends the request again, for as long as it is refused for want of them.
export async function request(address, init = {}) {
  for (;;) {
    const authorization = sessionStorage.getItem(KEPT);
    const headers = { ...init.headers, ...(authorization && { Authorization: authorization }) };
    const response = await fetch(address, { ...init, headers });
    if (response.status !== 401) return response;
    // Meanwhile another request may have been given credentials.
    if (sessionStorage.getItem(KEPT) === authorization) {
      sessionStorage.removeItem(KEPT);
      asking ??= ask(authorization !== null).finally(() => { asking = null; });
      await asking;
    }
  }
}

function ask(again) {
  refused.hidden = !again;
  secret.value = "";
  dialog.showModal();
  (again && user.value ? secret : user).focus();
  return new Promise((answered) => {
    form.onsubmit = (event) => {
      event.preventDefault();
      sessionStorage.setItem(KEPT, authorizationOf(user.value, secret.value));
      dialog.close();
      answered();
    };
  });
}

function authorizationOf(name, text) {
  if (!name) return `Bearer ${text.trim()}`;
  const bytes = new TextEncoder().encode(`${name}:${text}`);
  return `Basic ${btoa(String.fromCharCode(...bytes))}`;
}

// Without credentials there is nothing to see behind it.
dialog.addEventListener("cancel", (event) => event.preventDefault());
