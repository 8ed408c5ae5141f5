import { mount } from "svelte";
import "./app.css";
import App from "./App.svelte";
import { app } from "./lib/state.svelte";
import { connect } from "./platform";

const platform = await connect();
app.start(platform);
mount(App, { target: document.getElementById("app")! });
